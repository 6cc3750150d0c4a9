import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clusters import commands
from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.host.fs import filesystems, mounts
from rbdcsi.model.filesystems import TABLE
from tests.integration.host.conftest import MIB, Disk, check, make

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 512 * MIB


@contextlib.contextmanager
def _mounted(device: Path, fs_type: str, directory: Path) -> Iterator[Path]:
    target = directory / "mounted"
    target.mkdir(exist_ok=True)
    work = mounts.Mounts(directory)
    work.mount(device, target, fs_type, (), seconds=20)
    try:
        yield target
    finally:
        work.unmount(target, seconds=20)


@pytest.mark.parametrize("fs_type", TABLE)
def test_made_file_system_is_intact_mounts_and_tells_its_usage(
    disk: Disk, directory: Path, fs_type: str
) -> None:
    device = disk(SIZE)
    make(device, fs_type, (), seconds=60)
    check(device, fs_type, seconds=60)
    assert _intact(device, fs_type)

    with _mounted(device, fs_type, directory) as target:
        empty = filesystems.usage(target, seconds=10)
        (target / "data").write_bytes(os.urandom(8 * MIB))
        commands.sync(target)
        used = filesystems.usage(target, seconds=10)

    assert SIZE * 0.7 < empty.total <= SIZE
    assert 6 * MIB < used.used - empty.used < 10 * MIB
    assert used.total == empty.total


@pytest.mark.parametrize(
    ("fs_type", "options"),
    [("ext4", ("-LNAMED",)), ("xfs", ("-LNAMED", "-K")), ("btrfs", ("-LNAMED",))],
)
def test_options_given_are_used(disk: Disk, fs_type: str, options: tuple[str, ...]) -> None:
    device = disk(SIZE)
    make(device, fs_type, options, seconds=60)

    with device.open("rb") as opened:
        assert b"NAMED" in opened.read(MIB)


def test_xfs_for_an_older_kernel_lacks_the_features_that_it_does_not_mount(disk: Disk) -> None:
    device = disk(SIZE)
    options = filesystems.xfs_options((5, 4), ("-K",))
    assert {"bigtime=0", "nrext64=0"} <= set(options)
    make(device, "xfs", ("-K", *options), seconds=60)
    argv = ("xfs_db", "-r", "-c", "sb 0", "-c", "print features_incompat", str(device))
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert not int(said.split(" = ")[1], 16) & (0x8 | 0x20)  # XFS_SB_FEAT_INCOMPAT_BIGTIME, NREXT64


def test_filesystem_of_a_newer_kernel_is_refused_with_the_cause(
    disk: Disk, directory: Path
) -> None:
    device = disk(SIZE)
    make(device, "xfs", (), seconds=60)
    feature = ("-c", "sb 0", "-c", "write -d features_incompat 0x80000003")
    subprocess.run(("xfs_db", "-x", *feature, str(device)), capture_output=True, check=True)
    with pytest.raises(errors.Failed) as refused, _mounted(device, "xfs", directory):
        pass
    (note,) = refused.value.__notes__
    assert f"this node's kernel {os.uname().release} does not mount this xfs" in note


@pytest.mark.parametrize("option", ["-F", "-f", "-ff", "--force"])
def test_option_that_forces_is_refused(disk: Disk, option: str) -> None:
    device = disk(SIZE)

    with pytest.raises(errors.InvalidRequest, match="overwrite"):
        make(device, "ext4", (option,), seconds=20)

    assert signature.content(device, seconds=20) == signature.BlankContent()


def test_unknown_file_system_is_refused_with_the_known_ones(disk: Disk) -> None:
    with pytest.raises(errors.InvalidRequest, match="ext4, xfs, btrfs"):
        make(disk(MIB), "vfat", (), seconds=20)


@pytest.mark.parametrize("fs_type", TABLE)
def test_damage_is_found_without_writing(disk: Disk, fs_type: str) -> None:
    device = disk(SIZE)
    make(device, fs_type, (), seconds=60)
    _damage(device, fs_type)
    before = _head(device)

    assert not _intact(device, fs_type)
    assert _head(device) == before


def test_ext4_damaged_beyond_preening_is_refused_with_what_to_do(disk: Disk) -> None:
    device = disk(SIZE)
    make(device, "ext4", (), seconds=60)
    _damage(device, "ext4")

    with pytest.raises(errors.Refused, match="e2fsck -f"):
        check(device, "ext4", seconds=60)


@pytest.mark.parametrize("fs_type", TABLE)
def test_own_unfinished_file_system_is_erased_and_made_without_force(
    disk: Disk, fs_type: str
) -> None:
    device = disk(SIZE)
    make(device, fs_type, (), seconds=60)

    filesystems.erase_signature(device, fs_type, seconds=60)
    filesystems.erase_signature(device, fs_type, seconds=60)
    make(device, fs_type, (), seconds=60)

    assert _intact(device, fs_type)


def test_half_written_make_is_erased_too(disk: Disk) -> None:
    device = disk(SIZE)
    with device.open("r+b") as opened:
        opened.seek(MIB)
        opened.write(b"inode table")

    filesystems.erase_signature(device, "ext4", seconds=60)

    assert signature.content(device, seconds=20) == signature.BlankContent()


def test_another_file_system_is_not_erased(disk: Disk) -> None:
    device = disk(SIZE)
    make(device, "xfs", (), seconds=60)

    with pytest.raises(errors.Refused, match="xfs"):
        filesystems.erase_signature(device, "ext4", seconds=60)

    assert _intact(device, "xfs")


def test_mounted_file_system_is_not_erased(disk: Disk, directory: Path) -> None:
    device = disk(SIZE)
    make(device, "ext4", (), seconds=60)

    with _mounted(device, "ext4", directory), pytest.raises(errors.Failed):
        filesystems.erase_signature(device, "ext4", seconds=60)

    assert _intact(device, "ext4")


def _intact(device: Path, fs_type: str) -> bool:
    """Check the whole file system by its own tool, without writing."""
    argv = {
        "ext4": ("e2fsck", "-f", "-n"),
        "xfs": ("xfs_repair", "-n"),
        "btrfs": ("btrfs", "check", "--readonly"),
    }
    return (
        subprocess.run((*argv[fs_type], device), capture_output=True, check=False).returncode == 0
    )


def _damage(device: Path, fs_type: str) -> None:
    """Overwrite structures that each file system's check looks at, but not its superblock."""
    where = {"ext4": (4096, 64 * 4096), "xfs": (512, 8192), "btrfs": (MIB, 63 * MIB)}
    offset, length = where[fs_type]
    with device.open("r+b") as opened:
        opened.seek(offset)
        opened.write(b"\xa5" * length)


def _head(device: Path) -> bytes:
    with device.open("rb") as opened:
        return opened.read(4 * MIB)
