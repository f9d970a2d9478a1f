#!/bin/sh
# Runs in the image's root.
set -eu
echo images >>/etc/boxbuild-hooks
