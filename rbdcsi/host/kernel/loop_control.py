"""The system calls that attach a file to a loop device (Linux, uapi/linux/loop.h)."""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_CONTROL = Path("/dev/loop-control")
_GET_FREE = 0x4C82  # LOOP_CTL_GET_FREE
_CONFIGURE = 0x4C0A  # LOOP_CONFIGURE, since Linux 5.8
_READ_ONLY, _DIRECT_IO = 1, 16  # LO_FLAGS_
# loop_config: the file's descriptor, the block size (0: the kernel's choice), flags and name.
_CONFIG = struct.Struct("=II 52x I 64s 112x 64x")


def attach_free(file: Path, *, readonly: bool) -> Path | None:
    """Attach a free loop device to the file, with direct I/O.

    Args:
        file: the backing file.
        readonly: the device refuses writes.

    Returns:
        The device; None if another program took the free device first.

    Raises:
        OSError: a file or a device cannot be opened, or the kernel refuses.
    """
    mode, flags = (os.O_RDONLY, _READ_ONLY) if readonly else (os.O_RDWR, 0)
    name = os.fsencode(file)[:63]  # losetup(8) shows it if the kernel does not know the path
    with _opened(file, mode) as backing, _opened(_CONTROL, os.O_RDWR) as control:
        device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
        config = _CONFIG.pack(backing, 0, flags | _DIRECT_IO, name)
        try:
            with _opened(device, mode) as loop:
                fcntl.ioctl(loop, _CONFIGURE, config)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return None
            raise
    return device


@contextlib.contextmanager
def _opened(path: Path, mode: int) -> Iterator[int]:
    fd = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
