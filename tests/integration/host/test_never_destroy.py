"""A device is blank only if every byte that matters was read as zero; else nothing is written."""

import os
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.model.filesystems import TABLE
from tests.integration.host.conftest import MIB, Disk, failing_disk, make

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
BAD_BYTES = [
    0,
    512,
    1024,  # ext4's superblock
    32768,  # LVM, ISO 9660
    65536,  # btrfs
    MIB // 2 + 512,
    MIB - 512,
    SIZE - MIB // 2,
    SIZE - MIB // 4,
    SIZE - 512,  # GPT's second header
]


@pytest.mark.parametrize("bad_byte", BAD_BYTES)
def test_device_that_cannot_be_read_there_is_never_blank(directory: Path, bad_byte: int) -> None:
    with (
        failing_disk(directory, SIZE, bad_byte) as device,
        pytest.raises(signature.DeviceUnreadable, match=str(device)),
    ):
        signature.content(device, seconds=20)


def test_device_that_can_be_read_is_blank(disk: Disk) -> None:
    assert signature.content(disk(SIZE), seconds=20) == signature.BlankContent()


@pytest.mark.parametrize("size", [512, 4096, MIB, MIB + 512, 3 * MIB // 2 - 512])
def test_small_and_odd_devices_are_read_to_their_end(disk: Disk, size: int) -> None:
    device = disk(size)
    assert signature.content(device, seconds=20) == signature.BlankContent()

    _write(device, size - 1, b"x")
    assert signature.content(device, seconds=20) == signature.Signature(signature.UNKNOWN)


def test_device_shorter_than_its_size_says_is_unreadable(disk: Disk, directory: Path) -> None:
    device = disk(SIZE)
    for file in directory.iterdir():
        os.truncate(file, MIB)

    with pytest.raises(signature.DeviceUnreadable):
        signature.content(device, seconds=20)


def test_what_is_no_device_is_not_blank(directory: Path) -> None:
    for path in (directory, directory / "missing"):
        with pytest.raises(errors.Failed, match="no block device"):
            signature.content(path, seconds=20)


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, SIZE - MIB // 2, SIZE - 1])
def test_one_byte_of_data_is_not_overwritten(disk: Disk, offset: int) -> None:
    device = disk(SIZE)
    _write(device, offset, b"x")

    assert signature.content(device, seconds=20) == signature.Signature(signature.UNKNOWN)
    for fs_type in TABLE:
        with pytest.raises(errors.Refused, match="must be blank"):
            make(device, fs_type, (), seconds=20)
    assert _read(device, offset, 1) == b"x"


@pytest.mark.parametrize("fs_type", TABLE)
def test_file_system_is_named_and_not_overwritten(disk: Disk, fs_type: str) -> None:
    device = disk(512 * MIB)
    make(device, fs_type, (), seconds=60)
    made = signature.content(device, seconds=20)
    assert isinstance(made, signature.Signature)
    assert made.fs_type == fs_type

    for other in TABLE:
        with pytest.raises(errors.Refused, match=fs_type):
            make(device, other, (), seconds=60)

    assert signature.content(device, seconds=20) == made


def test_partition_table_is_named(disk: Disk) -> None:
    device = disk(SIZE)
    linux_partition = bytes.fromhex("00202100 83 20 2000 00080000 00f80100".replace(" ", ""))
    _write(device, 446, linux_partition)
    _write(device, 510, b"\x55\xaa")

    found = signature.content(device, seconds=20)

    assert isinstance(found, signature.Signature)
    assert found.fs_type == "dos"


def _write(device: Path, offset: int, data: bytes) -> None:
    with device.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _read(device: Path, offset: int, length: int) -> bytes:
    with device.open("rb") as opened:
        opened.seek(offset)
        return opened.read(length)
