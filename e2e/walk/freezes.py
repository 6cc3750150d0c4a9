"""Snapshots of a walk for which a node freezes the filesystem, and what stays frozen: nothing."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import rbd

from e2e import errors
from e2e.clusters import commands
from e2e.volume import Volume
from e2e.walk.world import Reached, World
from rbdcsi.host.fs import mountinfo
from rbdcsi.model import ids

_THAW = 0xC0045878  # FITHAW: <linux/fs.h>
_LOOP = 7  # the major number of loop devices
_SECONDS = 30.0  # for a plugin that has just started to thaw what an earlier one has frozen
# ext4's superblock: where it is, and in it the magic number and the incompatible features.
_SUPERBLOCK, _MAGIC, _FEATURES = slice(1024, 2048), slice(0x38, 0x3A), slice(0x60, 0x64)
_EXT4, _RECOVER = 0xEF53, 0x4


def require_no_recovery(world: World, made: Volume, snapshot_id: str) -> None:
    """Check that the journal of a frozen snapshot is empty; it is trouble if it is not."""
    try:
        with world.image(made, readonly=True) as image:
            image.set_snap_by_id(ids.parse_snapshot(snapshot_id).snap_id)
            superblock = image.read(0, _SUPERBLOCK.stop)[_SUPERBLOCK]
    except (rbd.ImageNotFound, rbd.InvalidArgument):  # it is deleted by now
        return
    magic, features = (int.from_bytes(superblock[field], "little") for field in (_MAGIC, _FEATURES))
    if magic == _EXT4 and features & _RECOVER:
        world.trouble(f"frozen snapshot {snapshot_id} has a journal that must be replayed")
    world.count("frozen snapshot looked into")


def require_none(world: World) -> None:
    """Check that the nodes, whose plugins run, have nothing frozen; otherwise thaw it."""
    try:
        commands.wait_until(lambda: not any(_marks(world.nodes)), "no mark is left", _SECONDS)
    except errors.DeadlineExceeded:
        world.trouble(f"marks of frozen filesystems stay: {sorted(_marks(world.nodes))}")
    for target in _thawed(world.nodes):
        world.trouble(f"{target} was left frozen")


def _marks(nodes: Sequence[Reached]) -> Iterator[Path]:
    for node in nodes:
        yield from (node.directory / "state/frozen").glob("*")


def _thawed(nodes: Sequence[Reached]) -> Iterator[Path]:
    """Thaw the filesystems of the nodes, and yield the directories of those that were frozen."""
    for path in _directories(nodes):
        try:
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # a raw block volume, or it is unmounted by now
            continue
        try:
            fcntl.ioctl(directory, _THAW, 0)
        except OSError:  # it was not frozen
            continue
        finally:
            os.close(directory)
        yield path


def _directories(nodes: Sequence[Reached]) -> Iterator[Path]:
    """Yield what is mounted, and what callers have open that hang, whose mount may be gone."""
    for entry in mountinfo.parse(Path("/proc/self/mountinfo").read_text()):
        if any(entry.target.is_relative_to(node.directory) for node in nodes):
            yield entry.target
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if descriptor.is_dir() and os.major(descriptor.stat().st_dev) == _LOOP:
                yield descriptor
