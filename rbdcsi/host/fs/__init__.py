"""Filesystems and mounts: mkfs, fsck, mount, unmount, and paths opened without following links."""
