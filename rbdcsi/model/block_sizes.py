"""The sizes of blocks that a kernel mounts: mkfs makes larger ones, too; pure.

xfs: a page, and up to 64 KiB since Linux 6.12 (xfs_fs_fill_super). btrfs: the kernel lists them in
/sys/fs/btrfs/features/supported_sectorsizes, if its module is loaded. mkfs.ext4 refuses those that
the kernel does not mount.
"""

import re
from collections.abc import Sequence

from rbdcsi.model.option_values import in_bytes
from rbdcsi.model.xfs_features import Version

_SETTINGS = {"xfs": "-b size=(.*)", "btrfs": "(?:-s|--sectorsize) (.*)"}
_XFS_BEYOND_A_PAGE = (6, 12)


def requested(fs_type: str, settings: Sequence[str]) -> int | None:
    """Return the size of blocks in bytes that options of mkfs name, None if they name none.

    Args:
        fs_type: the filesystem.
        settings: as `mkfs_options.settings` returns them.
    """
    pattern = _SETTINGS.get(fs_type)
    matches = [re.fullmatch(pattern, each) for each in settings] if pattern else []
    sizes = [in_bytes(match[1]) for match in matches if match]
    return sizes[-1] if sizes else None


def mounts_xfs(size: int, kernel: Version, page: int) -> bool:
    """Return whether a kernel mounts xfs with blocks of that size.

    Args:
        size: of a block in bytes.
        kernel: the kernel's version.
        page: the size of its pages in bytes.
    """
    return size <= page or kernel >= _XFS_BEYOND_A_PAGE


def mounts_btrfs(size: int, supported: str | None) -> bool:
    """Return whether a kernel mounts btrfs with sectors of that size.

    Args:
        size: of a sector in bytes.
        supported: the kernel's list of sizes; None if it shows none.
    """
    return supported is None or str(size) in supported.split()
