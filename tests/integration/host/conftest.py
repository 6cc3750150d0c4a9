"""Disks for the host's tests: loop devices on sparse files, and one that fails to read."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from rbdcsi.host import command, lasting
from rbdcsi.host.block import loop, signature
from rbdcsi.host.fs import filesystems, mounts
from rbdcsi.host.mappers import storage_daemon
from rbdcsi.runtime import deadlines

MIB = 1 << 20
Disk = Callable[[int], Path]
FailingDisk = Callable[[int, int], contextlib.AbstractContextManager[Path]]


@pytest.fixture
def directory(temporary: Path) -> Iterator[Path]:
    """A directory with a short name (unix sockets), removed after the test."""
    with tempfile.TemporaryDirectory(dir=temporary, prefix="host-") as made:
        yield Path(made)


@pytest.fixture
def disk(directory: Path, nothing_left: None) -> Iterator[Disk]:
    """Give a maker of blank disks: size in bytes to the device."""
    assert nothing_left is None
    with contextlib.ExitStack() as undo:

        def make(size: int) -> Path:
            file = Path(tempfile.mkstemp(dir=directory)[1])
            return undo.enter_context(_attached(file, size))

        yield make


@contextlib.contextmanager
def _attached(file: Path, size: int) -> Iterator[Path]:
    with file.open("r+b") as opened:
        opened.truncate(size)
    device = loop.attach(file, readonly=False, seconds=10)
    try:
        yield device
    finally:
        loop.detach(device, file, seconds=10)


@contextlib.contextmanager
def failing_disk(directory: Path, size: int, bad_byte: int) -> Iterator[Path]:
    """Give a disk of zeroes whose sector at `bad_byte` answers a read with EIO.

    qemu's blkdebug driver injects the error, beneath FUSE and a loop device.
    """
    backing = directory / "backing"
    backing.touch()
    with backing.open("r+b") as opened:
        opened.truncate(size)
    file = storage_daemon.file_in(directory)
    file.touch()
    error = {"event": "none", "iotype": "read", "errno": 5, "sector": bad_byte // 512}
    blockdev = {
        "driver": "blkdebug",
        "node-name": "image",
        "image": {"driver": "file", "filename": str(backing)},
        "inject-error": [error],
    }
    export = {"type": "fuse", "id": "e", "node-name": "image", "mountpoint": str(file)}
    argv = (storage_daemon.PROGRAM, "--daemonize", "--blockdev", json.dumps(blockdev))
    command.run((*argv, "--export", json.dumps(export)), seconds=20)
    try:
        device = loop.attach(file, readonly=True, seconds=10)
        try:
            yield device
        finally:
            loop.detach(device, file, seconds=10)
    finally:
        storage_daemon.stop(directory, force=False, seconds=10)
        mounts.Mounts(directory).unmount(file, seconds=10)


def make(device: Path, fs_type: str, options: Sequence[str] = (), *, seconds: float) -> None:
    """Read the device and, if it is blank, make a filesystem."""
    found = signature.content(device, seconds=seconds)
    with deadlines.within(seconds):
        filesystems.make(device, fs_type, options, found, runner(device))


def check(device: Path, fs_type: str, *, seconds: float) -> None:
    """Check the device's filesystem."""
    with deadlines.within(seconds):
        filesystems.check(device, fs_type, runner(device))


def runner(device: Path) -> filesystems.Runner:
    """Return a runner that knows no child of before."""
    return filesystems.Runner(lasting.LastingCommands(), lasting.Work((str(device),), 1, "test"))
