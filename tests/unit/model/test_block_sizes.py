"""Blocks that are larger than a page: which kernel mounts them."""

import pytest

from rbdcsi.model import mkfs_options
from rbdcsi.model.block_sizes import mounts_btrfs, mounts_xfs, requested
from rbdcsi.model.filesystems import TABLE


@pytest.mark.parametrize(
    ("fs_type", "text", "size"),
    [
        ("xfs", "-K", None),
        ("xfs", "-bsize=64k", 65536),
        ("xfs", "-b size=1024 -n size=8192", 1024),
        ("btrfs", "-n 64k", None),
        ("btrfs", "-n 64k -s 16K", 16384),
        ("btrfs", "--sectorsize=4096", 4096),
        ("btrfs", "-s 4096b", 4096),
        ("ext4", "-b 4096", None),
    ],
)
def test_the_size_is_read_from_the_options(fs_type: str, text: str, size: int | None) -> None:
    allowed = TABLE[fs_type].mkfs_allowed
    words = mkfs_options.parse(text, fs_type, allowed)
    assert requested(fs_type, mkfs_options.settings(words, fs_type, allowed)) == size


def test_xfs_has_blocks_beyond_a_page_since_linux_6_12() -> None:
    assert mounts_xfs(4096, (6, 1), 4096)
    assert not mounts_xfs(8192, (6, 11), 4096)
    assert mounts_xfs(65536, (6, 12), 4096)
    assert mounts_xfs(65536, (6, 1), 65536)


def test_btrfs_has_the_sectors_that_the_kernel_lists() -> None:
    assert mounts_btrfs(4096, "4096 65536")
    assert not mounts_btrfs(16384, "4096 65536")
    assert mounts_btrfs(16384, None)
