"""An rbd-nbd that has no device holds the lock on its directory, and is not forgotten."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers import daemons, nbd, state_dir
from rbdcsi.host.mappers.interface import Image

RECORD = state_dir.Record(Image("fsid", 1, "volumes", "", "image-id", "image"), readonly=False)
DEVICE = RECORD.device("nbd", Path("/dev/nbd0"), None)

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give the directory of an image whose mapping was cut off."""
    return state_dir.StateDirectories(tmp_path).create(RECORD)


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Give a verb that starts a process as the mapper starts rbd-nbd."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        argv = ("sh", "-c", "read -r line", "rbd-nbd", "--conf", f"{directory}/ceph.conf")
        with daemons.lock(directory) as lock:
            started.append(subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(lock,)))
        return started[-1]

    yield begin
    for process in started:
        process.communicate()


def test_one_that_starts_is_ended_before_its_directory_goes(
    tmp_path: Path, directory: Path, start: Start
) -> None:
    process = start()
    nbd.Nbd(tmp_path).unmap(DEVICE, seconds=10)

    assert process.poll() is not None
    assert not directory.exists()


def test_one_whose_device_was_unmapped_ends_by_itself(
    tmp_path: Path, directory: Path, start: Start
) -> None:
    process = start()
    (directory / "unmapping").touch()
    with pytest.raises(errors.Busy, match="still runs"):
        nbd.Nbd(tmp_path).unmap(DEVICE, seconds=0.3)
    assert process.poll() is None

    process.communicate()
    nbd.Nbd(tmp_path).unmap(DEVICE, seconds=10)
    assert not directory.exists()
