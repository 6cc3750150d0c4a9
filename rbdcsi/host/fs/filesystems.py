"""Filesystems on block devices: make, check, measure. `block/signature.py` reads the content.

Nothing here overwrites data: `make` requires that the device was read as blank. (mke2fs asks before
it overwrites a filesystem only if it runs on a terminal, so its `-F` is no guard.)
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, lasting
from rbdcsi.host.block import devices, signature
from rbdcsi.host.kernel import sysfs
from rbdcsi.model import block_sizes, mkfs_options, xfs_features
from rbdcsi.model.filesystems import TABLE, without_discard

_VERSION_SECONDS = 10.0
_BTRFS_SECTORS = Path("/sys/fs/btrfs/features/supported_sectorsizes")
_FORCE = frozenset(("-f", "-F", "-ff", "-FF", "--force"))


@dataclass(frozen=True)
class Usage:
    """The usage of a mounted filesystem, in bytes and in inodes (btrfs has 0 inodes)."""

    total: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    inodes_used: int


@dataclass(frozen=True)
class Runner:
    """Runs the lasting command of one image: as `work` among the children of the plugin."""

    children: lasting.LastingCommands
    work: lasting.Work


def make(
    device: Path, fs_type: str, options: Sequence[str], content: signature.Content, runner: Runner
) -> None:
    """Make a filesystem on a blank device. DESTROYS the content of the device.

    Args:
        device: the block device.
        fs_type: one of `model.filesystems.TABLE`.
        options: options for mkfs instead of the defaults; empty for the defaults.
        content: the result of reading the device just before.
        runner: runs mkfs, which may outlive the call.

    Raises:
        InvalidRequest: `fs_type` is not in the table, or an option forces mkfs to overwrite data.
        Refused: the device is not blank.
        ChildAlive: mkfs runs on; `made` takes its result.
    """
    _require_in_table(fs_type)
    if forced := _FORCE.intersection(options):
        raise errors.InvalidRequest(
            f"mkfs options: {', '.join(sorted(forced))} would overwrite data; leave it out"
        )
    if content != signature.BlankContent():
        raise errors.Refused(
            f"{device}: must be blank to get a filesystem, found {content}; it is left as it is"
        )
    options = without_discard(fs_type, options or TABLE[fs_type].mkfs_defaults)
    if fs_type == "xfs":
        options = (*options, *xfs_options(xfs_features.version(os.uname().release), options))
    argv = (f"mkfs.{fs_type}", *options, str(device))
    runner.children.run(runner.work, argv, step=f"making {fs_type} on {device}")


def require_mountable(fs_type: str, options: Sequence[str]) -> None:
    """Check that this node mounts the filesystem that mkfs would make; mkfs does not.

    Args:
        fs_type: one of `model.filesystems.TABLE`.
        options: for mkfs, as `mkfs_options.parse` returns them.

    Raises:
        InvalidRequest: its blocks would be larger than those that the kernel mounts.
    """
    settings = mkfs_options.settings(options, fs_type, TABLE[fs_type].mkfs_allowed)
    size = block_sizes.requested(fs_type, settings)
    if size is None:
        return
    release, page = os.uname().release, os.sysconf("SC_PAGE_SIZE")
    if fs_type == "xfs" and not block_sizes.mounts_xfs(size, xfs_features.version(release), page):
        raise errors.InvalidRequest(
            f"mkfsOptions: Linux {release} of this node mounts xfs with blocks of at most {page} "
            f"bytes, not {size} (Linux 6.12 and later do)"
        )
    if fs_type == "btrfs":
        supported = sysfs.read(_BTRFS_SECTORS)
        if not block_sizes.mounts_btrfs(size, supported):
            raise errors.InvalidRequest(
                f"mkfsOptions: Linux {release} of this node mounts btrfs with sectors of "
                f"{supported} bytes, not {size}"
            )


def xfs_options(kernel: xfs_features.Version, options: Sequence[str]) -> tuple[str, ...]:
    """Return further options, by which mkfs.xfs makes a filesystem that the kernel mounts."""
    if kernel >= xfs_features.NEWEST:
        return ()
    result = command.run(("mkfs.xfs", "-V"), seconds=_VERSION_SECONDS, step="asking for mkfs.xfs")
    return xfs_features.switched_off(kernel, xfs_features.version(result.text), options)


def erase_signature(device: Path, fs_type: str, *, seconds: float) -> None:
    """Zero the signature that an interrupted `make` of this driver left. DESTROYS that filesystem.

    The caller must know that the device holds no data. The zeroed parts are those that
    `signature.content` reads, so that `make` finds the device blank and needs no force option.

    Args:
        device: the block device.
        fs_type: the filesystem whose making was interrupted.
        seconds: how long each command may take.

    Raises:
        Refused: the device has the signature of another filesystem.
        CommandFailed: among other causes, the device is mounted.
    """
    _require_in_table(fs_type)
    content = signature.content(device, seconds=seconds)
    if isinstance(content, signature.BlankContent):
        return
    if content.fs_type not in (fs_type, signature.UNKNOWN):
        raise errors.Refused(
            f"{device}: must hold an unfinished {fs_type}, found {content}; it is left as it is"
        )
    for offset, length in signature.ends(devices.size(device)):
        # blkdiscard opens the device exclusively, so it fails on a mounted device
        argv = ("blkdiscard", "--zeroout", f"--offset={offset}", f"--length={length}", str(device))
        command.run(argv, seconds=seconds, step=f"erasing an unfinished {fs_type} on {device}")


def check(device: Path, fs_type: str, runner: Runner) -> None:
    """Repair damage that needs no decision, before the filesystem is mounted.

    XFS and btrfs replay their log and verify checksums as they mount. Their repair tools need the
    decisions of a person (xfs_repair even refuses a log that a mount would replay), so this
    function runs nothing for them.

    Args:
        device: the block device.
        fs_type: its filesystem.
        runner: runs the check, which may outlive the call.

    Raises:
        Refused: the damage needs a person.
        ChildAlive: the check runs on; a repeat takes its result.
    """
    _require_in_table(fs_type)
    if fs_type != "ext4":
        return
    children, work, argv = runner.children, runner.work, ("e2fsck", "-p", str(device))
    try:
        if children.result(work) is None:
            children.run(work, argv, step=f"checking ext4 on {device}", ok=(0, 1))
    except command.CommandFailed as error:
        # e2fsck(8): 4 is "errors left uncorrected"
        if error.exit_code not in command.ANSWERS or not error.exit_code & 4:
            raise
        raise errors.Refused(
            f"{device}: ext4 has damage that e2fsck does not repair without a person's decision; "
            "take a snapshot of the image, then run `e2fsck -f` on the device yourself. e2fsck "
            f"said: {error.stderr.strip()}"
        ) from error


def usage(path: Path, *, seconds: float) -> Usage:
    """Return the usage of the filesystem mounted at the path, by statfs(2) in a child."""
    argv = ("stat", "--file-system", "--format=%S %b %f %a %c %d", "--", str(path))
    result = command.run(argv, seconds=seconds, step=f"measuring the filesystem at {path}")
    fields = [int(field) for field in result.text.split()]
    block, blocks, free, available, inodes, inodes_free = fields
    return Usage(
        total=blocks * block,
        available=available * block,
        used=(blocks - free) * block,
        inodes=inodes,
        inodes_free=inodes_free,
        inodes_used=inodes - inodes_free,
    )


def _require_in_table(fs_type: str) -> None:
    if fs_type not in TABLE:
        raise errors.InvalidRequest(f"filesystem {fs_type!r}: must be one of {', '.join(TABLE)}")
