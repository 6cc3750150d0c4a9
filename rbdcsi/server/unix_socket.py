"""The driver's socket: private from its first moment, taken from nobody, removed at the end.

The socket is bound under a passing name and renamed over the real one. So what was left by a dead
driver is replaced in one step, and gRPC, which removes the name it bound when it stops, cannot
remove the socket of the next driver. Nothing else ever stays beside the socket.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rbdcsi import errors


@contextlib.contextmanager
def published(path: Path, bind: Callable[[Path], None]) -> Iterator[None]:
    """Have a socket at `path`, for its owner only, while the body runs.

    Args:
        path: where clients connect.
        bind: binds a socket at the path it is given and listens.

    Raises:
        Refused: somebody answers at `path`, something else is there, or its folder is unusable.
    """
    with _alone_in(path.parent):
        _check_free(path)
        mine = _publish(path, bind)
    try:
        yield
    finally:
        with _alone_in(path.parent):
            if _identity(path) == mine:
                path.unlink()


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other drivers from looking and binding in that folder at the same moment."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.Refused(
            f"the socket's folder {folder} cannot be used: {error.strerror}; create it, or choose "
            "another --endpoint"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_free(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.Refused(f"{path} is not a socket; remove it, or choose another --endpoint")
    if _answers(path):
        raise errors.Refused(
            f"another driver answers at {path}; stop it, or choose another --endpoint"
        )


def _answers(path: Path) -> bool:
    """Whether somebody listens; only a refusal proves that nobody does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError):  # its queue is full
            return True
    return True


def _publish(path: Path, bind: Callable[[Path], None]) -> tuple[int, int] | None:
    passing = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    before = os.umask(0o177)
    try:
        bind(passing)
        passing.rename(path)
    finally:
        os.umask(before)
        passing.unlink(missing_ok=True)
    return _identity(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
