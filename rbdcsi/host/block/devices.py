"""Sizes and users of this host's block devices."""

import errno
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import processes
from rbdcsi.host.kernel import udev


def size(device: Path) -> int:
    """Return the device's size in bytes, from sysfs: the device itself is not opened.

    Raises:
        Failed: the path is not a block device.
    """
    try:
        sysfs = Path(f"/sys/dev/block/{number(device)}/size")
        return int(sysfs.read_text()) * 512  # this file always counts sectors of 512 bytes
    except OSError as error:
        raise errors.Failed(
            f"{device}: is no block device of this host: {error.strerror}"
        ) from error


def number(device: Path) -> str:
    """Return `major:minor` of the device's node."""
    device_number = device.stat().st_rdev
    return f"{os.major(device_number)}:{os.minor(device_number)}"


def require_growth(device: Path, new_size: int) -> None:
    """Raise Refused if `new_size`, in bytes, is below the device's size."""
    old_size = size(device)
    if new_size < old_size:
        raise errors.Refused(
            f"{device}: has {old_size} bytes; a size of {new_size} bytes would cut off data"
        )


def wait_for_size(device: Path, expected_size: int, *, seconds: float) -> None:
    """Return when the device has at least `expected_size` bytes.

    Args:
        device: the block device.
        expected_size: its new size in bytes.
        seconds: the longest time to wait.

    Raises:
        DeadlineExceeded: the device was still smaller at the end of that time.
    """
    if not udev.wait_until(lambda: size(device) >= expected_size, seconds=seconds):
        raise errors.DeadlineExceeded(
            f"{device}: must have {expected_size} bytes by now, has {size(device)}; repeat the call"
        )


def require_unclaimed(device: Path, server: int | None = None) -> None:
    """Raise Busy, naming the users, if the device is mounted or claimed.

    Mounts, mkfs, fsck, device-mapper tables and swap claim a device. An exclusive open fails for a
    device that is claimed in any mount namespace (open(2), O_EXCL).

    Args:
        device: the block device.
        server: the process that serves the device and has it open itself; None if there is none.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise in_use_error(device, server) from error
        raise errors.Failed(f"{device}: cannot be opened: {error.strerror}") from error


def require_unused(device: Path, server: int | None = None) -> None:
    """Raise Busy, naming the users, if the device is claimed (see `require_unclaimed`) or open.

    Processes that have the device open without a claim are read from /proc, as far as it shows
    them.

    Args:
        device: the block device.
        server: the process that serves the device and has it open itself; None if there is none.
    """
    require_unclaimed(device, server)
    if processes.users_of_path(device, server):
        raise in_use_error(device, server)


def in_use_error(device: Path, server: int | None = None) -> errors.Busy:
    """Return the error that names the device's users; `server` is as in `require_unused`."""
    users = (processes.mounts_of_device(number(device)), processes.users_of_path(device, server))
    names = "; ".join(filter(None, users)) or processes.HIDDEN_USER
    return errors.Busy(f"{device}: in use by {names}; unmount and close it, then repeat the call")
