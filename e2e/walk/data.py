"""Writes and reads of a published volume, and the rules that they must keep.

- No write is acknowledged at a node that the volume was not attached to while it lasted.
- A node that had the volume staged all the time reads every write that was acknowledged before, and
  none that a rollback has undone.

Both are decided by the record in Ceph, read before and after: its generation grows with each
attachment, so an equal one means that no other attachment was in between.
"""

import contextlib
import os
import random
from collections.abc import Iterator, Set
from pathlib import Path

from e2e.volume import Volume
from e2e.walk.world import Reached, World
from rbdcsi.attachments.records import State, VolumeRecord

_LOOKED_INTO = 3  # files of one read


def write(world: World, volume: Volume, node: Reached, pod: str, chance: random.Random) -> bool:
    """Write a file durably, if the volume is published; return whether it was acknowledged."""
    token = f"{chance.getrandbits(64):016x}"
    before = world.record(volume)
    with _opened(volume.target(node, pod)) as directory:
        if directory is None:
            return False
        world.contents.begin(volume.id, token)
        acknowledged = _written(directory, token)
    after = world.record(volume)
    if before.rollbacks == after.rollbacks:
        world.contents.written(volume.id, after.rollbacks, token, acknowledged=acknowledged)
    if not acknowledged:
        return False
    what = f"write {volume.id} {node.name} {token}"
    if before.generation == after.generation and not any(
        node.name in record.attachments for record in (before, after)
    ):
        world.trouble(f"{what} was acknowledged, but the volume was not attached there")
    world.note(f"{what}: OK, generation {before.generation} to {after.generation}")
    world.count("write acknowledged")
    return True


def read(world: World, volume: Volume, node: Reached, pod: str, chance: random.Random) -> bool:
    """Read what is there, if the volume is published, and compare with what was acknowledged.

    Returns whether the comparison counts.
    """
    before = world.record(volume)
    content = world.contents.of(volume.id, before.rollbacks)
    with _opened(volume.target(node, pod)) as directory:
        if directory is None or content is None:
            return False
        staged_before = _device(volume.staging(node)) == os.fstat(directory).st_dev
        found, damaged = _content(directory, content.present, chance)
        staged_after = _device(volume.staging(node)) == os.fstat(directory).st_dev
    after = world.record(volume)
    if not (staged_before and staged_after and is_staged_by(node.name, before, after)):
        return False
    what = f"read {volume.id} {node.name} generation {after.generation}"
    if found is None:
        world.trouble(f"{what}: failed, though the volume was staged all the time: {damaged}")
    elif lost := content.present - found:
        world.trouble(f"{what}: lost acknowledged files {sorted(lost)}, found {len(found)} files")
    elif undone := content.absent & found:
        world.trouble(f"{what}: has files that were rolled back {sorted(undone)}")
    elif damaged:
        world.trouble(f"{what}: {damaged}")
    else:
        world.note(f"{what}: OK, {len(content.present)} files, without {len(content.absent)}")
    world.count("read compared")
    return True


def is_staged_by(node: str, before: VolumeRecord, after: VolumeRecord) -> bool:
    """Return whether a node had a volume staged from one look at its record to the other."""
    attachments = [each.attachments.get(node) for each in (before, after)]
    return before.generation == after.generation and all(
        each is not None and each.state is State.STAGED for each in attachments
    )


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
    directory: int, expected: Set[str], chance: random.Random
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
