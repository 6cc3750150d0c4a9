#!/bin/sh
# Runs a command in the image's root as the node plugin's container does: the root read-only, a mount
# namespace of its own, the host's devices, processes and network. Mounts below SHARED, itself a
# shared mount, reach the host; no others do.
# usage: inside.sh ROOT SHARED COMMAND...
set -eu
exec unshare --mount --propagation unchanged sh -euc '
    root=$1 shared=$2
    shift 2
    top=/$(echo "$shared" | cut -d/ -f2)
    mount --make-private /
    mount --make-private "$(stat -c %m "$root")"
    mount --bind -o ro "$root" "$root"
    for tree in /dev /proc /sys; do mount --rbind "$tree" "$root$tree"; done
    mount -t tmpfs tmpfs "$root$top"
    mkdir -p "$root$shared"
    mount --rbind "$shared" "$root$shared"
    cd "$root"
    pivot_root . mnt
    cd /
    mount --make-rslave /mnt # what is unmounted now stays mounted on the host
    umount --lazy /mnt
    exec "$@"
' inside "$@"
