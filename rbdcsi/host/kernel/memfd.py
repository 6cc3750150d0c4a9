"""Files in memory, without a name: they pass a secret to a child that takes only a path."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def containing(text: str) -> Iterator[int]:
    """Yield the descriptor, for `pass_fds`, of a file with that text; the child reads `path(fd)`.

    The kernel deletes the file when the last process closes it.
    """
    fd = os.memfd_create("rbdcsi", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.encode())
        yield fd
    finally:
        os.close(fd)


def path(fd: int) -> str:
    """Return the path by which a child that inherits the descriptor opens the file."""
    return f"/proc/self/fd/{fd}"
