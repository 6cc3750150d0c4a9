"""The superblock of a btrfs with another UUID; tests/integration/clones mounts such ones."""

import struct

import pytest

from rbdcsi.host.block import btrfs_uuid

NEW = bytes(range(16))
OLD = b"o" * 16


def _superblock(*, kind: int = 0, devices: int = 1, features: int = 0) -> bytes:
    block = bytearray(4096)
    block[32:48] = OLD
    block[64:72] = b"_BHRfS_M"
    block[136:144] = struct.pack("<Q", devices)
    block[188:196] = struct.pack("<Q", features)
    block[196:198] = struct.pack("<H", kind)
    checksum = btrfs_uuid._CHECKSUMS.get(kind, bytes)
    block[:32] = checksum(bytes(block[32:])).ljust(32, b"\0")[:32]
    return bytes(block)


def test_crc32c_of_a_known_text() -> None:
    assert btrfs_uuid.crc32c(b"123456789") == struct.pack("<I", 0xE3069283)  # RFC 3720, B.4


@pytest.mark.parametrize("kind", [0, 2, 3])
def test_blocks_keep_the_uuid_that_they_have(kind: int) -> None:
    once = btrfs_uuid.with_fsid(_superblock(kind=kind), NEW)
    assert once
    twice = btrfs_uuid.with_fsid(once, OLD[::-1])
    assert twice
    for block, fsid in ((once, NEW), (twice, OLD[::-1])):
        assert (block[32:48], block[571:587]) == (fsid, OLD)
        assert block[188:196] == struct.pack("<Q", 1 << 10)
        assert block[48:188] == once[48:188] == _superblock()[48:188]
    assert btrfs_uuid.with_fsid(twice, NEW) == once


def test_filesystem_that_cannot_be_changed_here_is_left() -> None:
    assert btrfs_uuid.with_fsid(_superblock(kind=1), NEW) is None
    assert btrfs_uuid.with_fsid(_superblock(devices=2), NEW) is None


@pytest.mark.parametrize("block", [b"", bytes(4096), _superblock()[:-1], _superblock()[:-1] + b"x"])
def test_damage_is_not_written_over(block: bytes) -> None:
    with pytest.raises(ValueError, match="superblock"):
        btrfs_uuid.with_fsid(block, NEW)
