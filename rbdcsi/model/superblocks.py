"""How much of its device a filesystem uses, read from its superblock; pure.

The fields are those of the kernel's fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h and
include/uapi/linux/btrfs_tree.h. Filesystems do not use every block of a device: each has a rule for
blocks at the end that are too few for a group of their own. So the sizes alone do not show whether
a filesystem can grow.
"""

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

HEAD_BYTES = 128 << 10  # has the superblock of each filesystem

_EXT4_SUPERBLOCK = 1024
_EXT4_LARGEST_BLOCK = 6  # 64 KiB
_EXT4_64BIT, _EXT4_SPARSE = 0x80, 0x1
_EXT4_SPARE_BLOCKS = 50  # e2fsprogs drops a last group with fewer blocks for data
_XFS_SMALLEST_GROUP = 16 << 20  # mkfs.xfs drops a smaller last group
_BTRFS_SUPERBLOCK = 64 << 10


def unused_bytes(fs_type: str, head: bytes, device_bytes: int) -> int | None:
    """Return the bytes by which a filesystem can grow on its device, 0 if it uses all that it can.

    Args:
        fs_type: the device's filesystem.
        head: the first `HEAD_BYTES` of the device, or more.
        device_bytes: the size of the device.

    Returns:
        None if there is no superblock of that filesystem.
    """
    rule = _RULES.get(fs_type)
    return None if rule is None or len(head) < HEAD_BYTES else rule(head, device_bytes)


def _ext4(head: bytes, device_bytes: int) -> int | None:
    def field(form: str, offset: int) -> int:
        return int(struct.unpack_from(form, head, _EXT4_SUPERBLOCK + offset)[0])

    log_block, per_group = field("<I", 0x18), field("<I", 0x20)
    if field("<H", 0x38) != 0xEF53 or log_block > _EXT4_LARGEST_BLOCK or not per_group:
        return None
    block = 1024 << log_block
    is_64bit = bool(field("<I", 0x60) & _EXT4_64BIT)
    blocks = field("<I", 0x4) | (field("<I", 0x150) << 32 if is_64bit else 0)
    first = field("<I", 0x14)
    most = device_bytes // block
    if not is_64bit:
        most = min(most, (1 << 32) - 1)
    inode_blocks = -(-field("<I", 0x28) * field("<H", 0x58) // block)
    groups = -(-(most - first) // per_group)
    overhead = 2 + inode_blocks
    if not field("<I", 0x64) & _EXT4_SPARSE or _has_backup(groups - 1):
        descriptor = field("<H", 0xFE) if is_64bit else 32
        overhead += 1 + -(-groups * descriptor // block) + field("<H", 0xCE)
    last_group = (most - first) % per_group
    if groups > 1 and 0 < last_group < overhead + _EXT4_SPARE_BLOCKS:
        most -= last_group
    return max(0, most - blocks) * block


def _has_backup(group: int) -> bool:
    """Return whether a group has a copy of the superblock (sparse_super): 0, 1, 3ⁿ, 5ⁿ, 7ⁿ."""
    if group <= 1:
        return True
    for base in (3, 5, 7):
        power = base
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def _xfs(head: bytes, device_bytes: int) -> int | None:
    block, blocks, per_group = (
        int(struct.unpack_from(form, head, offset)[0])
        for form, offset in ((">I", 4), (">Q", 8), (">I", 84))
    )
    if not head.startswith(b"XFSB") or not block or not per_group:
        return None
    most = device_bytes // block
    last_group = most % per_group
    if last_group * block < _XFS_SMALLEST_GROUP:
        most -= last_group
    return max(0, most - blocks) * block


def _btrfs(head: bytes, device_bytes: int) -> int | None:
    superblock = head[_BTRFS_SUPERBLOCK:]
    sector = int(struct.unpack_from("<I", superblock, 0x90)[0])
    used = int(struct.unpack_from("<Q", superblock, 0xD1)[0])  # dev_item.total_bytes: this device's
    if superblock[0x40:0x48] != b"_BHRfS_M" or not sector:
        return None
    return max(0, device_bytes // sector * sector - used)


_RULES: Mapping[str, Callable[[bytes, int], int | None]] = MappingProxyType(
    {"ext4": _ext4, "xfs": _xfs, "btrfs": _btrfs}
)
