"""Files without a name, in memory: how a secret reaches a child that wants a path."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def holding(text: str) -> Iterator[int]:
    """Give a descriptor for `pass_fds`; the child reads `path(fd)`; gone with its last user."""
    fd = os.memfd_create("rbdcsi", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


def path(fd: int) -> str:
    """Return the descriptor as a path for the child."""
    return f"/proc/self/fd/{fd}"
