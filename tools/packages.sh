#!/bin/sh
# Installs the Debian packages the driver, its tests and its demo need, when one is missing, and
# those that are given.
set -eu
packages="ceph-mon ceph-mgr ceph-osd ceph-common python3-rados python3-rbd rbd-nbd
qemu-utils qemu-system-common qemu-system-x86 qemu-block-extra e2fsprogs xfsprogs btrfs-progs
python3-venv util-linux libudev1 udev kmod fio busybox-static socat iproute2 ca-certificates $*"
missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "these Debian packages are missing, install them as root:$missing" >&2; exit 1; }
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086  # a list of words is meant
apt-get -qq install -y --no-install-recommends $missing >/dev/null
