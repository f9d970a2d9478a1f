#!/bin/sh
# Runs in the box, in the folder of the image's root: FILESYSTEM PARTITION.
set -eu
test "$1" = ext4
echo edit-boot-config >>etc/boxbuild-hooks
