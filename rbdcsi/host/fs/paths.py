"""Target paths, opened below one directory without following a symbolic link.

A path from a request is walked component by component from the directory's descriptor with
O_NOFOLLOW, so whoever swaps a component for a link meanwhile gets an error, not another place.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rbdcsi import errors

Kind = Literal["directory", "file"]
_TYPES = {"directory": (stat.S_IFDIR,), "file": (stat.S_IFREG, stat.S_IFBLK)}


@dataclass(frozen=True)
class Target:
    """An opened target: `fd` is an O_PATH descriptor of it."""

    path: Path
    fd: int

    @property
    def kind(self) -> Kind:
        """What it is; everything but a directory counts as a file."""
        return "directory" if stat.S_ISDIR(os.fstat(self.fd).st_mode) else "file"

    @property
    def proc(self) -> str:
        """The target as a path for a child that inherits `fd`."""
        return f"/proc/self/fd/{self.fd}"


@contextlib.contextmanager
def open_target(
    path: Path, base: Path, kind: Kind | None = None, *, create: bool = False
) -> Iterator[Target]:
    """Open the target for the body.

    Args:
        path: where the caller wants it; must lie strictly inside `base`.
        base: the directory that targets belong to (`--kubelet-dir`); may itself be a link.
        kind: `directory`, or `file`, which is also what a block device is bound to; None is any.
        create: make the last component if it is missing (directory 0750, file 0600). Its parent
            must exist: CSI has the plugin create `target_path` and the orchestrator its parent.

    Raises:
        InvalidRequest: not absolute, `..`, outside `base`, through a link, or of another type.
        NotFound: it, or a directory above it, does not exist.
    """
    with open_parent(path, base) as parent:
        if create and kind:
            _create(path, parent, kind)
        fd = _open(path.name, os.O_PATH | os.O_NOFOLLOW, parent, path)
        try:
            if kind:
                _require(kind, fd, path)
            yield Target(path, fd)
        finally:
            os.close(fd)


def create_target(path: Path, base: Path, kind: Kind) -> None:
    """Create the target if it is not there; see `open_target`."""
    with open_target(path, base, kind, create=True):
        pass


def remove_target(path: Path, base: Path) -> None:
    """Remove the target, an empty directory or an empty file; not there is fine.

    Raises:
        InvalidRequest: see `open_target`.
        Busy: it is still a mount point.
        Refused: it holds data, which then is the host's and not the volume's.
    """
    try:
        with open_parent(path, base) as parent, _translated(path):
            found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(path.name, dir_fd=parent)
            elif not stat.S_ISREG(found.st_mode):
                raise errors.InvalidRequest(
                    f"path {str(path)!r}: is a link or special file, which is not of this driver's "
                    "making and is left as it is"
                )
            elif found.st_size:
                raise errors.Refused(_holds_data(path))
            else:
                os.unlink(path.name, dir_fd=parent)
    except errors.NotFound:
        return


def inside(path: Path, base: Path) -> tuple[str, ...]:
    """Return the components of the path below `base`; InvalidRequest if it is not below it."""
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise errors.InvalidRequest(f"path {str(path)!r}: must be absolute and without '..'")
    if base not in path.parents:
        raise errors.InvalidRequest(
            f"path {str(path)!r}: must be inside {base}; if the kubelet works elsewhere, "
            "say so with --kubelet-dir"
        )
    return path.relative_to(base).parts


@contextlib.contextmanager
def open_parent(path: Path, base: Path) -> Iterator[int]:
    """Open the directory that holds the target; umount needs it: `Target.fd` keeps a mount busy."""
    parts = inside(path, base)
    walk = os.O_PATH | os.O_DIRECTORY
    fd = _open(str(base), walk, None, path)
    try:
        for part in parts[:-1]:
            below = _open(part, walk | os.O_NOFOLLOW, fd, path)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _open(name: str, flags: int, parent: int | None, path: Path) -> int:
    with _translated(path, name):
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=parent)


def _create(path: Path, parent: int, kind: Kind) -> None:
    with _translated(path), contextlib.suppress(FileExistsError):
        if kind == "directory":
            os.mkdir(path.name, 0o750, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path.name, flags, 0o600, dir_fd=parent))


def _require(kind: Kind, fd: int, path: Path) -> None:
    with _translated(path):
        mode = os.fstat(fd).st_mode
    if stat.S_IFMT(mode) not in _TYPES[kind]:
        raise errors.InvalidRequest(
            f"path {path}: must be a {kind}, found one of mode {stat.filemode(mode)}"
        )


@contextlib.contextmanager
def _translated(path: Path, name: str | None = None) -> Iterator[None]:
    at = f"path {path}" + (f", at {name!r}" if name and name != path.name else "")
    try:
        yield
    except FileNotFoundError as error:
        raise errors.NotFound(f"{at}: does not exist") from error
    except NotADirectoryError as error:
        raise errors.InvalidRequest(f"{at}: is a link or no directory") from error
    except OSError as error:
        raise _of_errno(at, path, error) from error


def _of_errno(at: str, path: Path, error: OSError) -> errors.RbdCsiError:
    match errno.errorcode.get(error.errno or 0):
        case "ENAMETOOLONG" | "EINVAL" | "ELOOP":
            return errors.InvalidRequest(f"{at}: {error.strerror}")
        case "ENOTEMPTY" | "EEXIST":
            return errors.Refused(_holds_data(path))
        case "EBUSY":
            return errors.Busy(f"{at}: something is still mounted there; unmount it, then repeat")
        case _:
            return errors.Failed(f"{at}: {error.strerror}")


def _holds_data(path: Path) -> str:
    return (
        f"path {path}: nothing is mounted there, yet it holds data, which is on this host's own "
        "disk and is kept; move it away by hand, then repeat"
    )
