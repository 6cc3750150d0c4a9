"""Loop devices over a file: found by the file, attached with direct I/O, detached for certain.

What exists is read from /sys/block/loop*/loop (kernel: drivers/block/loop.c), never remembered.
"""

import contextlib
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.block import devices

_SYS_BLOCK = Path("/sys/block")


def of_file(file: Path, noted: Path | None = None) -> Path | None:
    """Return the loop device over that file, or None.

    Args:
        file: which file.
        noted: the device that was attached to it once: when the file's own mount has gone, the
            kernel has no name for the file any more and shows `/`.
    """
    for attached in _SYS_BLOCK.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached meanwhile
            name = os.fsdecode(attached.read_bytes()).rstrip("\n")
            device = Path("/dev") / attached.parents[1].name
            if name in (f"{file}", f"{file} (deleted)") or (name == "/" and device == noted):
                return device
    return None


def attach(file: Path, *, readonly: bool, seconds: float) -> Path:
    """Attach a free loop device to the file, past the page cache, and return it."""
    mode = ("--read-only",) if readonly else ()
    argv = ("losetup", "--find", "--show", "--direct-io=on", *mode, "--", str(file))
    return Path(command.run(argv, seconds=seconds).text.strip())


def take_size(device: Path, *, seconds: float) -> None:
    """Make the device as large as its file is now."""
    command.run(("losetup", "--set-capacity", str(device)), seconds=seconds)


def detach(device: Path, file: Path, *, seconds: float) -> None:
    """Detach the device from the file, so that afterwards nothing reads or writes the file by it.

    Raises:
        Busy: it is mounted or open. The kernel would say OK and detach it some time later
            (LO_FLAGS_AUTOCLEAR), so that is found out first, and looked at again afterwards.
    """
    devices.require_unused(device)
    with contextlib.suppress(command.CommandFailed):  # gone already, or judged below
        command.run(("losetup", "--detach", str(device)), seconds=seconds)
    if of_file(file, device) == device:
        raise errors.Busy(f"{device}: was opened while it was being detached; repeat the call")
