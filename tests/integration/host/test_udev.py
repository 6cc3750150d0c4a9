"""Waiting for block devices by the real kernel's events."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import udev

pytestmark = pytest.mark.usefixtures("nothing_left")

MIB = 1 << 20


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "disk"
    with file.open("wb") as disk:
        disk.truncate(MIB)
    argv = ("losetup", "--find", "--show", str(file))
    device = Path(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip())
    yield device
    subprocess.run(("losetup", "--detach", str(device)), check=True)


def test_a_device_that_grows_meanwhile_is_noticed_by_its_event(
    loop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udev, "_CHECK_SECONDS", 1000)  # so only an event ends the wait

    def grow() -> None:
        with (tmp_path / "disk").open("r+b") as disk:
            disk.truncate(4 * MIB)
        subprocess.run(("losetup", "--set-capacity", str(loop)), check=True)

    timer = threading.Timer(0.3, grow)
    timer.start()
    devices.wait_for_size(loop, 4 * MIB, seconds=20)
    timer.join()
    assert devices.size(loop) == 4 * MIB


def test_a_device_that_does_not_grow_ends_the_wait_with_both_sizes(loop: Path) -> None:
    with pytest.raises(errors.DeadlineExceeded, match=f"{2 * MIB} bytes by now, has {MIB}"):
        devices.wait_for_size(loop, 2 * MIB, seconds=0.2)
