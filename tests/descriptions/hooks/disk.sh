#!/bin/sh
# Runs in the root on the disk, after the others.
set -eu
echo disk >>/etc/boxbuild-hooks
echo "hooks: $(tr '\n' ' ' </etc/boxbuild-hooks)" >>/etc/issue
