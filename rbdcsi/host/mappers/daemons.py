"""Processes that serve mapped images and outlive the plugin that started them.

Each has a lock on its image's directory from its start: the kernel and /proc may not show yet which
image a starting process is for.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[int]:
    """Lock the directory; yield the descriptor, for `pass_fds`.

    The lock lasts until the last process with the descriptor has closed it or ended.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def is_locked(directory: Path) -> bool:
    """Return whether a process has a lock on the directory."""
    try:
        with lock(directory):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def pids() -> Iterator[int]:
    """Return the process ids of this host."""
    names = os.listdir("/proc")  # noqa: PTH208  no Path for each of hundreds
    return (int(name) for name in names if name.isdecimal())


@contextlib.contextmanager
def watched(pid: int) -> Iterator[int | None]:
    """Yield a pidfd of the process, which is readable once it has ended; None if it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield pidfd
    finally:
        os.close(pidfd)
