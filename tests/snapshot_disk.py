"""A snapshot as a disk of this machine, and whether its filesystem needs its journal."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import rbd

from e2e.pool import PoolView
from e2e.volume import Volume
from rbdcsi.host.block import loop, signature


@contextlib.contextmanager
def copied(pool: PoolView, made: Volume, snapshot: str, directory: Path) -> Iterator[Path]:
    """Give a read-only disk with what the snapshot has, byte by byte."""
    file = directory / "copy"
    with (
        rbd.Image(
            pool.ioctx, image_id=pool.image_id(made), snapshot=snapshot, read_only=True
        ) as image,
        file.open("wb") as opened,
    ):
        opened.truncate(image.size())

        def copy(offset: int, length: int, exists: bool) -> None:
            if exists:
                os.pwrite(opened.fileno(), image.read(offset, length), offset)

        image.diff_iterate(0, image.size(), None, copy)
    device = loop.attach(file, readonly=True, seconds=10)
    try:
        yield device
    finally:
        loop.detach(device, file, seconds=10)
        file.unlink()


def needs_recovery(device: Path, fs_type: str) -> bool:
    """Return whether the filesystem's journal or log must be replayed."""
    if fs_type == "btrfs":
        return signature.has_btrfs_log(device, seconds=10)
    header = subprocess.run(["dumpe2fs", "-h", device], check=True, capture_output=True, text=True)
    return "needs_recovery" in header.stdout


@contextlib.contextmanager
def mounted_without_recovery(device: Path, fs_type: str, directory: Path) -> Iterator[Path]:
    """Give a mount of the disk that replays nothing."""
    mount = directory / "mount"
    mount.mkdir()
    options = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}[fs_type]
    subprocess.run(["mount", "-t", fs_type, "-o", options, device, mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)
        mount.rmdir()
