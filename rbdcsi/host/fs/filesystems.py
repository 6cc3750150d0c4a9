"""File systems on a block device: make, check, measure. `content.py` tells what is there.

Nothing here overwrites data: `make` wants to be shown that the device was read as blank. (mke2fs
asks before it overwrites a file system only if it runs on a terminal, so its `-F` is no guard.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices, signature
from rbdcsi.model.filesystems import TABLE

_FORCE = frozenset(("-f", "-F", "-ff", "-FF", "--force"))


@dataclass(frozen=True)
class Usage:
    """How full a mounted file system is, in bytes and in inodes (btrfs has 0 of these)."""

    total: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    inodes_used: int


def make(
    device: Path,
    fs_type: str,
    options: Sequence[str],
    found: signature.Blank | signature.Signature,
    *,
    seconds: float,
) -> None:
    """Make a file system on a blank device. DESTROYS what it holds.

    Args:
        device: the block device.
        fs_type: one of `model.filesystems.TABLE`.
        options: for mkfs, in place of the defaults; empty for these.
        found: what reading the device said just now.
        seconds: how long it may take.

    Raises:
        InvalidRequest: another `fs_type`, or an option that forces.
        Refused: the device is not blank.
    """
    _require_known(fs_type)
    if forced := _FORCE.intersection(options):
        raise errors.InvalidRequest(f"mkfs options: {forced} would overwrite data; leave it out")
    if found != signature.Blank():
        raise errors.Refused(f"{device}: must be blank to get a file system, found {found}")
    argv = (f"mkfs.{fs_type}", *(options or TABLE[fs_type].mkfs_defaults), str(device))
    command.run(argv, seconds=seconds)


def erase_signature(device: Path, fs_type: str, *, seconds: float) -> None:
    """Zero what our own `make` began and never finished. DESTROYS it; never used on data.

    What is zeroed is what `content` reads, so that `make` finds the device blank, without force.

    Raises:
        Refused: the signature of another file system is there.
        CommandFailed: among others, the device is mounted.
    """
    _require_known(fs_type)
    found = signature.content(device, seconds=seconds)
    if found == signature.Blank():
        return
    if isinstance(found, signature.Signature) and found.fs_type not in (fs_type, signature.UNKNOWN):
        raise errors.Refused(f"{device}: must hold an unfinished {fs_type}, found {found}")
    for offset, length in signature.ends(devices.size(device)):
        # blkdiscard opens the device exclusively, so one that is mounted is not touched
        argv = ("blkdiscard", "--zeroout", f"--offset={offset}", f"--length={length}", str(device))
        command.run(argv, seconds=seconds)


def check(device: Path, fs_type: str, *, seconds: float) -> None:
    """Mend, before mounting, what can be mended without a decision.

    XFS and btrfs replay their log and verify checksums as they mount; their repair tools are for a
    person (xfs_repair even refuses a log that a mount would replay), so nothing is run for them.

    Raises:
        Refused: the damage needs a person.
    """
    _require_known(fs_type)
    if fs_type != "ext4":
        return
    try:
        command.run(("e2fsck", "-p", str(device)), seconds=seconds, ok=(0, 1))
    except command.CommandFailed as error:
        if not error.exit_code & 4:  # e2fsck(8): 4 is "errors left uncorrected"
            raise
        raise errors.Refused(
            f"{device}: ext4 is damaged beyond what is safe to mend unasked; take a snapshot of "
            f"the image, then run `e2fsck -f` on it by hand. It said: {error.stderr.strip()}"
        ) from error


def usage(path: Path, *, seconds: float) -> Usage:
    """Return how full the file system mounted at the path is, by statfs(2) in a child."""
    argv = ("stat", "--file-system", "--format=%S %b %f %a %c %d", "--", str(path))
    fields = [int(field) for field in command.run(argv, seconds=seconds).text.split()]
    block, blocks, free, available, inodes, inodes_free = fields
    return Usage(
        total=blocks * block,
        available=available * block,
        used=(blocks - free) * block,
        inodes=inodes,
        inodes_free=inodes_free,
        inodes_used=inodes - inodes_free,
    )


def _require_known(fs_type: str) -> None:
    if fs_type not in TABLE:
        raise errors.InvalidRequest(f"file system {fs_type!r}: must be one of {', '.join(TABLE)}")
