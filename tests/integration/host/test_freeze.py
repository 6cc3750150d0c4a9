"""The child that freezes a filesystem, on loop devices with each filesystem."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.fs import freeze, mounts, paths
from rbdcsi.model import filesystems

MIB = 1 << 20
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=filesystems.TABLE)
def mounted(
    request: pytest.FixtureRequest, disk: Callable[[int], Path], directory: Path
) -> Iterator[paths.Target]:
    """Give the opened directory of a mounted filesystem, thawed after the test."""
    device, target = disk(320 * MIB), directory / "mount"
    subprocess.run([f"mkfs.{request.param}", "-q", device], check=True, capture_output=True)
    target.mkdir()
    table = mounts.Mounts(directory)
    table.mount(device, target, request.param, (), seconds=30)
    try:
        with paths.open_target(target, directory, "directory") as opened:
            yield opened
    finally:
        _unfreeze(target)
        table.unmount(target, seconds=30)


@contextlib.contextmanager
def freezing(mount: paths.Target, limit: float) -> Iterator[freeze.Freeze]:
    child = freeze.Freeze(mount, limit)
    try:
        yield child
    finally:
        child.end()


def _unfreeze(path: Path) -> bool:
    return not subprocess.run(["fsfreeze", "-u", path], check=False, capture_output=True).returncode


def test_it_is_held_until_the_order(mounted: paths.Target) -> None:
    with freezing(mounted, 60) as child:
        assert child.wait_until_frozen()
        with freezing(mounted, 60) as other, pytest.raises(errors.Refused, match="frozen already"):
            other.wait_until_frozen()
        child.thaw()
        thawed = child.wait_until_thawed()
        assert thawed
        assert thawed.was_frozen
        assert child.end()
    assert not _unfreeze(mounted.path)


def test_it_is_thawed_at_the_limit(mounted: paths.Target) -> None:
    with freezing(mounted, 0.2) as child:
        assert child.wait_until_frozen()
        thawed = child.wait_until_thawed()
        assert thawed
        assert not thawed.was_frozen
    assert not _unfreeze(mounted.path)


def test_a_thaw_by_another_program_is_noticed(mounted: paths.Target) -> None:
    with freezing(mounted, 60) as child:
        assert child.wait_until_frozen()
        assert _unfreeze(mounted.path)
        child.thaw()
        thawed = child.wait_until_thawed()
        assert thawed
        assert not thawed.was_frozen
        assert child.end()


def test_it_is_thawed_although_nothing_takes_the_output(mounted: paths.Target) -> None:
    child = Path(freeze.__file__).with_name("freeze_child.py")
    reading, writing = os.pipe()
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", child, str(mounted.fd), "0.2"],
            stdin=reading,
            stdout=full,
            pass_fds=(mounted.fd,),
            check=False,
        )
    os.close(reading)
    os.close(writing)
    assert ended.returncode == 0
    assert not _unfreeze(mounted.path)


def test_a_thaw_that_was_ordered_before_prevents_the_freeze(mounted: paths.Target) -> None:
    with freezing(mounted, 60) as child:
        child.thaw()
        assert not child.wait_until_frozen()
        assert child.end()
    assert not _unfreeze(mounted.path)


def test_what_a_child_left_frozen_is_thawed(mounted: paths.Target) -> None:
    with freezing(mounted, 60) as child:
        assert child.wait_until_frozen()
        os.kill(child.pid, 9)
        assert child.wait_until_thawed() is None
        assert not child.end()
    freeze.thaw(mounted)
    assert not _unfreeze(mounted.path)
    freeze.thaw(mounted)
