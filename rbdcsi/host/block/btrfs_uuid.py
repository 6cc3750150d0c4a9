"""Gives the copy of a btrfs a UUID of its own, so that it can be mounted beside the original.

Kernels before 6.7 mount one filesystem of a UUID. btrfs keeps the UUID that its blocks carry apart
from the one that it is known by (feature metadata_uuid, Linux 5.0), so a new one takes only another
superblock. `btrfstune -m` does that, too, but it also counts the generation on: the log of a
filesystem that was copied while it was mounted then fits no more, and it cannot be mounted at all
(seen with btrfs-progs 6.2). So the superblock is written here, and nothing in it is changed but the
UUID. It lies in one block of 4 KiB, which Ceph writes as a whole.

The format is in the documentation of btrfs, "On-disk format": superblock.
"""

import hashlib
import struct
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices, signature

_AT = 64 << 10  # the only copy that the kernel reads to mount a filesystem
_BYTES = 4096
_CHECKSUM = slice(0, 32)
_COUNTED = slice(32, _BYTES)
_FSID = slice(32, 48)
_MAGIC = slice(64, 72)
_INCOMPATIBLE = slice(188, 196)  # feature flags
_CHECKSUM_TYPE = slice(196, 198)
_DEVICES = slice(136, 144)
_METADATA_UUID = slice(571, 587)
_HAS_METADATA_UUID = 1 << 10


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return tuple(table)


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> bytes:
    """Return the CRC-32C (Castagnoli) of the data, little-endian."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


# By their numbers in the superblock; 1 is xxhash64, which Python does not have.
_CHECKSUMS: Mapping[int, Callable[[bytes], bytes]] = {
    0: crc32c,
    2: lambda data: hashlib.sha256(data).digest(),
    3: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
}


def renew(device: Path, *, seconds: float) -> bool:
    """Give the btrfs on a device a new UUID; a repeat gives another one.

    Args:
        device: the block device, which is not mounted.
        seconds: how long each command may take.

    Returns:
        False, with nothing written, if the filesystem cannot get one here: its checksums are
        xxhash, or it has several devices.

    Raises:
        Busy: the device is in use.
        DeviceUnreadable: the superblock could not be read.
        Failed: it is damaged.
    """
    devices.require_unclaimed(device)
    superblock = signature.read(device, _AT, _BYTES, seconds)
    try:
        renewed = with_fsid(superblock, uuid.uuid4().bytes)
    except ValueError as error:
        raise errors.Failed(f"{device}: {error}; nothing was written") from error
    if renewed is None:
        return False
    argv = (
        "dd",
        f"of={device}",
        f"bs={_BYTES}",
        f"seek={_AT // _BYTES}",
        "count=1",
        "iflag=fullblock",
        "oflag=direct",
        "conv=notrunc,nocreat,fsync",
        "status=none",
    )
    command.run(argv, seconds=seconds, stdin=renewed, step=f"giving {device} a new UUID")
    return True


def with_fsid(superblock: bytes, fsid: bytes) -> bytes | None:
    """Return a superblock that differs in the filesystem's UUID only.

    Args:
        superblock: 4096 bytes.
        fsid: the new UUID.

    Returns:
        None if the checksum is one that cannot be computed here, or there are several devices.

    Raises:
        ValueError: it is no valid superblock.
    """
    if len(superblock) != _BYTES or superblock[_MAGIC] != b"_BHRfS_M":
        raise ValueError("not a superblock of btrfs")
    (kind,) = struct.unpack("<H", superblock[_CHECKSUM_TYPE])
    checksum = _CHECKSUMS.get(kind)
    if checksum is None or struct.unpack("<Q", superblock[_DEVICES]) != (1,):
        return None
    if superblock[_CHECKSUM] != checksum(superblock[_COUNTED]).ljust(32, b"\0"):
        raise ValueError("the superblock of btrfs has a wrong checksum")
    renewed = bytearray(superblock)
    (features,) = struct.unpack("<Q", superblock[_INCOMPATIBLE])
    if not features & _HAS_METADATA_UUID:
        renewed[_METADATA_UUID] = superblock[_FSID]
        renewed[_INCOMPATIBLE] = struct.pack("<Q", features | _HAS_METADATA_UUID)
    renewed[_FSID] = fsid
    renewed[_CHECKSUM] = checksum(bytes(renewed[_COUNTED])).ljust(32, b"\0")
    return bytes(renewed)
