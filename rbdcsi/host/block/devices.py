"""Block devices of this host: their size, and whether anybody uses them."""

import errno
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import processes
from rbdcsi.host.kernel import udev


def size(device: Path) -> int:
    """Return the device's size in bytes, from sysfs: the device itself is not touched.

    Raises:
        Failed: there is no such block device.
    """
    try:
        sysfs = Path(f"/sys/dev/block/{number(device)}/size")
        return int(sysfs.read_text()) * 512  # this file counts 512-byte sectors, always
    except OSError as error:
        raise errors.Failed(f"{device}: is no block device here: {error.strerror}") from error


def number(device: Path) -> str:
    """Return `major:minor` of the device's node."""
    found = device.stat().st_rdev
    return f"{os.major(found)}:{os.minor(found)}"


def require_growth(device: Path, wanted: int) -> None:
    """Raise Refused if `wanted`, in bytes, is below the device's size."""
    now = size(device)
    if wanted < now:
        raise errors.Refused(f"{device}: has {now} bytes already, {wanted} would cut it")


def wait_for_size(device: Path, wanted: int, *, seconds: float) -> None:
    """Return when the device has at least `wanted` bytes.

    Raises:
        DeadlineExceeded: it has not in time.
    """
    if not udev.wait_until(lambda: size(device) >= wanted, seconds=seconds):
        raise errors.DeadlineExceeded(
            f"{device}: must have {wanted} bytes by now, has {size(device)}"
        )


def require_unused(device: Path, server: int | None = None) -> None:
    """Raise Busy, naming the users, if the device is mounted, claimed or open.

    A mount, a device mapper table and swap each claim the device, in any mount namespace, and an
    exclusive open tells (open(2), O_EXCL). Who merely has it open is seen as far as /proc shows.

    Args:
        device: which one.
        server: the process that serves it, if one does and has it open itself.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise in_use(device, server) from error
        raise errors.Failed(f"{device}: cannot be opened: {error.strerror}") from error
    if processes.using(device, server):
        raise in_use(device, server)


def in_use(device: Path, server: int | None = None) -> errors.Busy:
    """Return the error that names who uses the device; `server` is as in `require_unused`."""
    users = filter(None, (processes.mounting(number(device)), processes.using(device, server)))
    named = "; ".join(users) or processes.NOBODY
    return errors.Busy(f"{device}: in use by {named}; unmount and close it, then repeat the call")
