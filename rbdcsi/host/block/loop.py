"""Loop devices over files: found by their file, attached with direct I/O, detached for certain.

The kernel's list, /sys/block/loop*/loop (drivers/block/loop.c), is read at each call.
"""

import contextlib
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices

_SYS_BLOCK = Path("/sys/block")


def device_of_file(file: Path, former_device: Path | None = None) -> Path | None:
    """Return the loop device over that file, or None.

    Args:
        file: the backing file.
        former_device: the device that was attached to the file before. Once the mount that the
            file is on has gone, the kernel shows `/` as the file's name, so only the device's name
            identifies it.
    """
    for backing_file in _SYS_BLOCK.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # another process detached it just now
            name = os.fsdecode(backing_file.read_bytes()).rstrip("\n")
            device = Path("/dev") / backing_file.parents[1].name
            if name in (f"{file}", f"{file} (deleted)") or (
                name == "/" and device == former_device
            ):
                return device
    return None


def attach(file: Path, *, readonly: bool, seconds: float) -> Path:
    """Attach a free loop device to the file, with direct I/O, and return the device.

    Args:
        file: the backing file.
        readonly: the device refuses writes.
        seconds: how long it may take.
    """
    mode = ("--read-only",) if readonly else ()
    argv = ("losetup", "--find", "--show", "--direct-io=on", *mode, "--", str(file))
    step = f"attaching a loop device to {file}"
    return Path(command.run(argv, seconds=seconds, step=step).text.strip())


def update_size(device: Path, *, seconds: float) -> None:
    """Make the device as large as its file is now."""
    argv = ("losetup", "--set-capacity", str(device))
    command.run(argv, seconds=seconds, step=f"updating the size of {device}")


def detach_at_last_close(device: Path, *, seconds: float) -> None:
    """Detach the device now, or when its last user closes it."""
    with contextlib.suppress(command.CommandFailed):  # it is detached already
        command.run(("losetup", "--detach", str(device)), seconds=seconds)


def detach(device: Path, file: Path, *, seconds: float) -> None:
    """Detach the device from the file: afterwards no I/O reaches the file through the device.

    Args:
        device: the loop device.
        file: its backing file.
        seconds: how long it may take.

    Raises:
        Busy: the device is mounted or open. For such a device the kernel reports success and
            detaches it at its last close (LO_FLAGS_AUTOCLEAR), so this function checks for users
            first, and afterwards checks that the device is detached.
    """
    devices.require_unused(device)
    detach_at_last_close(device, seconds=seconds)
    if device_of_file(file, device) == device:
        raise errors.Busy(
            f"{device}: another process opened it while it was being detached from {file}; "
            "repeat the call"
        )
