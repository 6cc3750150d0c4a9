#!/bin/sh
# Fills a disk with images as containerd keeps them, in namespaces that end with this script.
# usage: import.sh DISK DIRECTORY ARCHIVE...
set -eu
disk=$1 directory=$2
shift 2
mkdir "$directory/root"
mount -o loop "$disk" "$directory/root"
containerd --config "$directory/config.toml" --root "$directory/root" --state "$directory/state" \
    --address "$directory/socket" >"$directory/log" 2>&1 &
server=$!
until ctr --address "$directory/socket" version >/dev/null 2>&1; do
    kill -0 "$server" || { cat "$directory/log" >&2; exit 1; }
    sleep 0.1
done
for archive; do
    ctr --address "$directory/socket" --namespace k8s.io images import "$archive" >/dev/null
done
kill "$server"
wait "$server" || true
umount "$directory/root"
