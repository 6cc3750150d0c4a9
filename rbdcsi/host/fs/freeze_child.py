"""A script for a child process: freeze a filesystem, hold it, and thaw it again.

The kernel keeps a filesystem frozen whatever becomes of the process that froze it. So this process
thaws it at the end of its input, which comes by order or when the driver dies, and at its time
limit. It imports nothing of the project, and touches no file of the filesystem.

Arguments: an inherited descriptor of a directory of the filesystem, and the limit in seconds; the
limit 0 thaws a filesystem that an earlier process has left frozen.

Each line of output is a fact: `synced`; `frozen`; `refused` and an errno; at last `thawed`, the
seconds that the filesystem was frozen, and whether it still was when the input ended.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import time

_FREEZE, _THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW: <linux/fs.h>
_PAUSE = 0.1  # seconds, before a thaw that failed is tried again
_TRIES = 20


def main() -> int:
    """Freeze and thaw; return 1 if the filesystem may still be frozen."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends in time by itself
    fd = os.open(f"/proc/self/fd/{sys.argv[1]}", os.O_RDONLY | os.O_DIRECTORY)
    limit = float(sys.argv[2])
    if not limit:
        return 1 if _thaw(fd) is None else 0
    # The kernel holds writers back before it writes the filesystem out. Written out before, little
    # is left for that.
    _sync(fd)
    _say("synced")
    if _input_ends(0):
        return 0
    begun = time.monotonic()
    try:
        fcntl.ioctl(fd, _FREEZE, 0)
    except OSError as error:
        _say(f"refused {error.errno}")
        return 0
    try:
        _say("frozen")
        in_time = _input_ends(limit - (time.monotonic() - begun))
    finally:
        was_frozen = _thaw(fd)
    if was_frozen is None:
        return 1
    seconds = time.monotonic() - begun
    _say(f"thawed {seconds:.3f} {in_time and was_frozen}")
    return 0


def _say(fact: str) -> None:
    with contextlib.suppress(OSError):  # the driver has ended
        os.write(1, f"{fact}\n".encode())


def _sync(fd: int) -> None:
    import ctypes

    ctypes.CDLL(None).syncfs(fd)  # an error is that of a file; the freeze meets it, too


def _input_ends(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], max(0.0, seconds))[0])


def _thaw(fd: int) -> bool | None:
    """Thaw; return whether the filesystem was frozen, None if it cannot be thawed."""
    for _ in range(_TRIES):
        try:
            fcntl.ioctl(fd, _THAW, 0)
        except OSError as error:
            if error.errno == errno.EINVAL:  # it is not frozen
                return False
            time.sleep(_PAUSE)
        else:
            return True
    return None


if __name__ == "__main__":
    sys.exit(main())
