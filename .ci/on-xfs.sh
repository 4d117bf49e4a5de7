#!/usr/bin/env bash
# Runs a command with its temporary files on a freshly made XFS file system, in an image of 1 GiB (sparse) that is mounted
# through a loop device and removed afterwards.
#   .ci/on-xfs.sh COMMAND...
set -euo pipefail
if ! command -v mkfs.xfs >/dev/null; then
  apt-get -qq update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y xfsprogs >/dev/null
fi
folder=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-xfs.XXXXXX")
cleanup() {
  umount "$folder/mounted" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
mkdir "$folder/mounted"
truncate -s 1G "$folder/image"
mkfs.xfs -q "$folder/image"
mount -o loop "$folder/image" "$folder/mounted"
[[ $(stat -f -c %T "$folder/mounted") == xfs ]]
TMPDIR=$folder/mounted "$@"
