#!/bin/sh
# Installs the host client from this unpacked archive: ./install.sh [ROOT]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${1:-/}
for program in btrfs skopeo; do
  command -v "$program" >/dev/null 2>&1 || echo "install.sh: $program is missing; snaphost needs it" >&2
done
# Also over a program that runs right now.
cp -Rf "$here/usr" "$root/"
# The system holds all of a file that was just written in memory and maps more of it than is used: on
# the disk and forgotten, it is read as it is needed, as after a boot.
sync "$root/usr/bin/snaphost" && dd "if=$root/usr/bin/snaphost" iflag=nocache count=0 status=none 2>/dev/null || true
[ "$root" != / ] || ! command -v systemctl >/dev/null 2>&1 || systemctl daemon-reload || true
echo "snaphost is installed; write /etc/snaphost/config.json and policy.json, then:"
echo "  systemctl enable --now snaphost-update.timer snaphost-boot-complete.service"
