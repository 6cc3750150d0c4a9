"""The driver's socket: only its owner can use it, and it never replaces another driver's socket.

The driver binds the socket to a temporary name and renames it to the real name. So it replaces the
socket of a dead driver in one step. And gRPC, which removes the name that it bound when it stops,
cannot remove the socket of the next driver.
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
    """Provide a socket at `path`, for its owner only, while the body runs; then remove it.

    Args:
        path: the path that clients connect to.
        bind: binds a socket to the path in its argument, and listens.

    Raises:
        Refused: another driver answers at `path`, it is no socket, or its folder cannot be used.
    """
    with _locked(path.parent):
        _check_free(path)
        identity = _publish(path, bind)
    try:
        yield
    finally:
        with _locked(path.parent):
            if _identity(path) == identity:  # not if another driver replaced it
                path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder: two drivers must not check and replace its socket at the same time."""
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
    """Return whether a process listens; only a refused connection proves that none does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError):  # the listener's queue is full
            return True
    return True


def _publish(path: Path, bind: Callable[[Path], None]) -> tuple[int, int] | None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    before = os.umask(0o177)
    try:
        bind(temporary)
        temporary.rename(path)
    finally:
        os.umask(before)
        temporary.unlink(missing_ok=True)
    return _identity(path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
