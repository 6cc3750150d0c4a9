"""Loop devices over files: found by their file, attached with direct I/O, detached for certain.

The kernel's list, /sys/block/loop*/loop (drivers/block/loop.c), is read at each call.
"""

import contextlib
import os
import time
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import loop_control, sysfs, udev
from rbdcsi.runtime import deadlines

_SYS_BLOCK = Path("/sys/block")
_PAUSE = 0.01  # seconds
_CLOSE_SECONDS = 1.0  # for programs that only look at every device, such as udevd and losetup


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

    It is no child: losetup(8) would take 2 ms, and this waits for no disk. The kernel flushes the
    file before it uses direct I/O, but nothing has been written to it yet.

    Args:
        file: the backing file.
        readonly: the device refuses writes.
        seconds: how long it may take until a device is free.

    Raises:
        Failed: the kernel refuses; the error has its message.
    """
    with deadlines.within(deadlines.remaining(seconds)):
        try:
            while (device := loop_control.attach_free(file, readonly=readonly)) is None:
                time.sleep(deadlines.remaining(_PAUSE))
        except OSError as error:
            cause = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise errors.Failed(f"attaching a loop device to {file}: {cause}") from error
        return device


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
        Busy: the device is mounted, or open: the kernel then detaches it at its last close
            (LO_FLAGS_AUTOCLEAR), until when it works.
    """

    def is_detached() -> bool:
        return device_of_file(file, device) != device

    devices.require_unclaimed(device)
    detach_at_last_close(device, seconds=seconds)
    if not is_detached() and not udev.wait_until(is_detached, seconds=_CLOSE_SECONDS):
        raise devices.in_use_error(device)


def is_ending(device: Path) -> bool:
    """Return whether the kernel detaches the device at its last close."""
    return sysfs.read(_SYS_BLOCK / device.name / "loop/autoclear") == "1"
