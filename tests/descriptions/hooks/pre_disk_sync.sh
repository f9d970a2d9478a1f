#!/bin/sh
# Runs in the image's root.
set -eu
echo pre_disk_sync >>/etc/boxbuild-hooks
