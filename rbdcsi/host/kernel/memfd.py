"""Files in memory, without a name: they pass data to a child that takes only a path."""

import contextlib
import os
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def containing(text: str) -> Iterator[int]:
    """Yield the descriptor, for `pass_fds`, of a file with that text; the child reads `path(fd)`.

    The kernel deletes the file when the last process closes it.
    """
    data = text.encode()
    with sparse(len(data), [(0, data)]) as fd:
        yield fd


@contextlib.contextmanager
def sparse(size: int, parts: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    """Yield the descriptor of a file with these bytes at their offsets, and zeros between them.

    Args:
        size: of the file, in bytes.
        parts: offset and bytes of each part.
    """
    fd = os.memfd_create("rbdcsi", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        for offset, data in parts:
            os.pwrite(fd, data, offset)
        yield fd
    finally:
        os.close(fd)


def path(fd: int) -> str:
    """Return the path by which a child that inherits the descriptor opens the file."""
    return f"/proc/self/fd/{fd}"
