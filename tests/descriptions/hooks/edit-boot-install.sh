#!/bin/sh
# Runs in the box, after the boot loader: DISK DEVICE.
set -eu
test -s "$1"
tune2fs -L HOOKS "$2"
