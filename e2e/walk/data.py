"""Writes and reads of a published volume, and the rules that they must keep.

- No write is acknowledged at a node that the volume was not attached to while it lasted.
- A node that had the volume staged all the time reads every write that was acknowledged before.

Both are decided by the record in Ceph, read before and after: its generation grows with each
attachment, so an equal one means that no other attachment was in between.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from e2e.pool import image_id
from e2e.volume import Volume
from e2e.walk.world import Reached, World
from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.attachments.store import Records

_LOOKED_INTO = 3  # files of one read


def write(world: World, volume: Volume, node: Reached, pod: str, chance: random.Random) -> bool:
    """Write a file durably, if the volume is published; return whether it was acknowledged."""
    token = f"{chance.getrandbits(64):016x}"
    before = _record(world, volume)
    with _opened(volume.target(node, pod)) as directory:
        if directory is None or not _written(directory, token):
            return False
    after = _record(world, volume)
    what = f"write {volume.id} {node.name} {token}"
    if before.generation == after.generation and not any(
        node.name in record.attachments for record in (before, after)
    ):
        world.trouble(f"{what} was acknowledged, but the volume was not attached there")
    world.note(f"{what}: OK, generation {before.generation} to {after.generation}")
    world.acknowledge(volume, token)
    world.count("write acknowledged")
    return True


def read(world: World, volume: Volume, node: Reached, pod: str, chance: random.Random) -> bool:
    """Read what is there, if the volume is published, and compare with what was acknowledged.

    Returns whether the comparison counts.
    """
    expected = world.acknowledged(volume)
    before = _staged(world, volume, node)
    with _opened(volume.target(node, pod)) as directory:
        if directory is None or before is None:
            return False
        staged_before = _device(volume.staging(node)) == os.fstat(directory).st_dev
        found, damaged = _content(directory, expected, chance)
        staged_after = _device(volume.staging(node)) == os.fstat(directory).st_dev
    after = _staged(world, volume, node)
    if not (staged_before and staged_after and after) or after.generation != before.generation:
        return False
    what = f"read {volume.id} {node.name} generation {after.generation}"
    if found is None:
        world.trouble(f"{what}: failed, though the volume was staged all the time: {damaged}")
    elif lost := expected - found:
        world.trouble(f"{what}: lost acknowledged files {sorted(lost)}, found {len(found)} files")
    elif damaged:
        world.trouble(f"{what}: {damaged}")
    else:
        world.note(f"{what}: OK, {len(expected)} files")
    world.count("read compared")
    return True


def _record(world: World, volume: Volume) -> VolumeRecord:
    record = Records(world.ioctx).get(image_id(volume))
    if len(record.attachments) > 1:
        world.trouble(f"{volume.id} is attached to {', '.join(record.attachments)} at once")
    return record


def _staged(world: World, volume: Volume, node: Reached) -> Attachment | None:
    attachment = _record(world, volume).attachments.get(node.name)
    return attachment if attachment and attachment.state is State.STAGED else None


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[int | None]:
    """Give a descriptor of the target's directory, None if nothing is mounted there."""
    try:
        directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield directory if os.fstat(directory).st_dev != _device(target.parent) else None
    finally:
        os.close(directory)


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _written(directory: int, token: str) -> bool:
    """Write a file durably; return whether that was acknowledged."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        file = os.open(token, flags, 0o600, dir_fd=directory)
        try:
            os.write(file, token.encode())
            os.fsync(file)
        finally:
            os.close(file)
        os.fsync(directory)
    except OSError:
        return False
    return True


def _content(
    directory: int, expected: set[str], chance: random.Random
) -> tuple[set[str] | None, str]:
    """Return the names of the files, and what is wrong with some of them; None without names."""
    try:
        names = set(os.listdir(directory))
        for name in chance.sample(
            sorted(expected & names), min(_LOOKED_INTO, len(expected & names))
        ):
            file = os.open(name, os.O_RDONLY, dir_fd=directory)
            try:
                content = os.read(file, 100)
            finally:
                os.close(file)
            if content != name.encode():
                return names, f"file {name} has {content!r}"
    except OSError as error:
        return None, str(error)
    return names, ""
