"""The lists of options beside mkfs and the kernel: they refuse the same values."""

import subprocess
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.fs import mounts
from rbdcsi.model import mkfs_options, mount_options
from rbdcsi.model.filesystems import TABLE
from tests.integration.host.conftest import MIB, Disk

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 1024 * MIB

MADE = {
    "ext4": (
        "-b 1024", "-b 2k", "-i 1024", "-i 67108864", "-i 16k", "-G 1", "-G 16", "-m 0", "-m 0.5",
        "-m 50", "-I 128", "-I 4096", "-g 256", "-g 32768", "-N 100000", "-C 16k -O bigalloc",
        "-J size=0", "-J size=4", "-J fast_commit_size=1", "-J location=10M", "-E stride=16",
        "-E orphan_file_size=1", "-E num_backup_sb=2", "-E desc_size=64", "-E root_owner=1:2",
        "-E encoding=utf8-12.1,encoding_flags=strict", "-O ^64bit,^extents",
        "-O ^resize_inode,meta_bg", "-O ^sparse_super,^resize_inode", "-O metadata_csum_seed",
    ),
    "xfs": (
        "-b size=1024", "-b size=64k", "-d agcount=2", "-d agsize=100m", "-d su=64k,sw=1",
        "-d su=0", "-d sunit=128,swidth=256", "-d noalign", "-d cowextsize=1", "-d sectsize=4096",
        "-i size=512", "-i size=2048", "-i perblock=2", "-i maxpct=100", "-i attr=2", "-i align",
        "-l size=64m", "-l su=4k", "-l su=256k", "-l sunit=8", "-l sunit=512", "-l version=2",
        "-l internal", "-m crc=0", "-m crc=0 -l version=1", "-m crc=0 -n ftype=0",
        "-m crc=0 -b size=512", "-m crc=0 -i size=256", "-m finobt=0,inobtcount=0",
        "-n size=4096", "-n size=65536", "-n version=ci", "-s size=512", "-s size=4096",
    ),
    "btrfs": (
        "-n 4k", "-n 65536", "-n 0", "-s 4096", "-M", "-O mixed-bg -M", "-O mixed-bg -n 4k",
        "-R ^free-space-tree", "-d dup",
    ),
}  # fmt: skip

NOT_MADE = {
    "ext4": (
        "-b 512", "-b 1000", "-b 131072", "-i 10", "-i 1023", "-i 67108865", "-G 0", "-G 3",
        "-G 4294967296", "-m 60", "-m 50.1", "-I 64", "-I 160", "-g 8", "-g 1001", "-N 100k",
        "-N 4294967296", "-C 1024 -O bigalloc", "-C 1G -O bigalloc", "-C 16k", "-J size=64M",
        "-J size=640001", "-J fast_commit_size=1M", "-E orphan_file_size=0", "-E num_backup_sb=3",
        "-E desc_size=32", "-E root_owner=1", "-E encoding=utf8-99.1", "-E encoding_flags=strict",
        "-E stride=1k", "-O ^extents", "-O ^64bit,^extents,bigalloc", "-O meta_bg",
        "-O ^sparse_super", "-O metadata_csum_seed,^metadata_csum", "-O orphan_file,^has_journal",
        "-E desc_size=64 -O ^64bit",
    ),
    "xfs": (
        "-b size=256", "-b size=512", "-b size=1000", "-b size=131072", "-b size=8s",
        "-d agcount=0", "-d agcount=1", "-d agcount=1k", "-d agsize=1m", "-d agsize=2t",
        "-d su=64k", "-d su=1000,sw=2", "-d sw=4", "-d sunit=128", "-d swidth=128",
        "-d su=64k,sw=4,noalign", "-d sunit=8,swidth=16,su=4k,sw=2", "-d sectsize=1000",
        "-d sectsize=65536", "-d projinherit=4294967296", "-i size=128", "-i size=256",
        "-i size=1000", "-i size=4096", "-i size=1k", "-i perblock=1", "-i perblock=3",
        "-i perblock=512", "-i maxpct=101", "-i attr=0", "-i attr=1", "-i align=0",
        "-i projid32bit=0", "-l size=1m", "-l size=3g", "-l su=0", "-l su=1000", "-l su=512k",
        "-l sunit=0", "-l sunit=1024", "-l version=1", "-l lazy-count=0", "-m crc=0,reflink=1",
        "-m crc=0,finobt", "-m crc=0 -i sparse=1", "-m crc=0 -i nrext64=1",
        "-m finobt=0,inobtcount=1", "-n ftype=0", "-n size=512", "-n size=5000", "-n size=131072",
        "-s size=256", "-s size=1000", "-s size=65536",
    ),
    "btrfs": (
        "-n 1k", "-n 128k", "-s 2k", "-s 5000", "-s 128k", "-O mixed-bg", "-R block-group-tree",
        "-R no-such",
    ),
}  # fmt: skip

MOUNTED = {
    "ext4": (
        "commit=0", "commit=2147483", "inode_readahead_blks=0", "inode_readahead_blks=1",
        "inode_readahead_blks=1073741824", "journal_ioprio=7", "stripe=3", "init_itable",
        "init_itable=0", "barrier", "barrier=1", "resuid=4294967294", "data=journal",
        "data=writeback,journal_async_commit", "data=journal,journal_async_commit",
    ),
    "xfs": (
        "logbufs=0", "logbufs=2", "logbufs=8", "logbsize=0", "logbsize=16k", "logbsize=262144",
        "allocsize=4k", "allocsize=12k", "allocsize=1g", "sunit=0", "sunit=0,swidth=0",
        "noalign,sunit=0",
    ),
    "btrfs": (
        "compress", "compress=zstd:15", "compress=lzo", "compress=none", "discard", "thread_pool=1",
        "max_inline=0", "max_inline=2k", "commit=30", "metadata_ratio=0", "space_cache=v2",
    ),
}  # fmt: skip

NOT_MOUNTED = {
    "ext4": (
        "commit=21474837", "inode_readahead_blks=3", "inode_readahead_blks=2147483648",
        "journal_ioprio=8", "stripe=4294967296", "init_itable=", "barrier=", "resuid=4294967295",
        "journal_async_commit", "journal_async_commit,journal_checksum", "delalloc,data=journal",
    ),
    "xfs": (
        "logbufs=1", "logbufs=9", "logbsize=1000", "logbsize=4k", "logbsize=48k", "logbsize=512k",
        "allocsize=0", "allocsize=1000", "allocsize=65k", "allocsize=2g", "sunit=8", "swidth=16",
        "noalign,sunit=8,swidth=16",
    ),
    "btrfs": (
        "compress=", "compress=gzip", "discard=", "thread_pool=0", "commit=4294967296",
        "space_cache=v3",
    ),
}  # fmt: skip


def _cases(texts: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(fs_type, text) for fs_type, each in texts.items() for text in each]


def _lists_make(fs_type: str, text: str) -> bool:
    filesystem = TABLE[fs_type]
    try:
        mkfs_options.parse(text, fs_type, filesystem.mkfs_allowed)
        mkfs_options.require_together(text, fs_type, filesystem.mkfs_allowed, filesystem.mkfs_rules)
    except errors.InvalidRequest:
        return False
    return True


def _lists_mount(fs_type: str, text: str) -> bool:
    filesystem = TABLE[fs_type]
    try:
        mount_options.require_allowed([text], fs_type, filesystem.mount_allowed)
        mount_options.require_together([text], fs_type, filesystem.mount_rules)
    except errors.InvalidRequest:
        return False
    return True


def _mkfs(fs_type: str, device: Path, text: str) -> bool:
    argv = (f"mkfs.{fs_type}", *text.split(), str(device))
    made = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    return made.returncode == 0


@pytest.mark.parametrize(("fs_type", "text"), _cases(MADE))
def test_options_at_the_ends_of_their_ranges_are_taken(disk: Disk, fs_type: str, text: str) -> None:
    assert _lists_make(fs_type, text)
    assert _mkfs(fs_type, disk(SIZE), text)


@pytest.mark.parametrize(("fs_type", "text"), _cases(NOT_MADE))
def test_options_that_mkfs_refuses_are_refused(disk: Disk, fs_type: str, text: str) -> None:
    assert not _mkfs(fs_type, disk(SIZE), text)
    assert not _lists_make(fs_type, text)


def _mount(disk: Disk, directory: Path, fs_type: str, text: str) -> bool:
    device, target = disk(SIZE), directory / "mounted"
    target.mkdir()
    assert _mkfs(fs_type, device, "" if fs_type == "ext4" else "-K")
    work = mounts.Mounts(directory)
    try:
        work.mount(device, target, fs_type, (text,), seconds=20)
    except command.CommandFailed:
        return False
    work.unmount(target, seconds=20)
    return True


@pytest.mark.parametrize(("fs_type", "text"), _cases(MOUNTED))
def test_mount_options_at_the_ends_of_their_ranges_are_taken(
    disk: Disk, directory: Path, fs_type: str, text: str
) -> None:
    assert _lists_mount(fs_type, text)
    assert _mount(disk, directory, fs_type, text)


@pytest.mark.parametrize(("fs_type", "text"), _cases(NOT_MOUNTED))
def test_mount_options_that_the_kernel_refuses_are_refused(
    disk: Disk, directory: Path, fs_type: str, text: str
) -> None:
    assert not _mount(disk, directory, fs_type, text)
    assert not _lists_mount(fs_type, text)
