#!/bin/sh
# Runs in the image's root.
set -eu
echo post_bootstrap >>/etc/boxbuild-hooks
