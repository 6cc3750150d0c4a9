"""Target paths, opened below one directory without following a symbolic link.

A path from a request is opened component by component, from the directory's descriptor, with
O_NOFOLLOW. If another process replaces a component by a link, the call fails; it never reaches
another location.
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
        """`directory` for a directory, otherwise `file`."""
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
        path: the target; it must lie inside `base` and must not be `base`.
        base: the directory that all targets are in (`--kubelet-dir`); it may be a link.
        kind: the type that the target must have: `directory`, or `file`, which a block device is
            bound to; None accepts both.
        create: make the last component if it is missing (directory 0750, file 0600). Its parent
            must exist: in CSI the plugin creates `target_path` and the orchestrator its parent.

    Raises:
        InvalidRequest: the path is not absolute, contains `..`, is outside `base`, leads through a
            link, or is of another type.
        NotFound: the path, or a directory above it, does not exist.
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
    """Create the target if it does not exist; see `open_target` for its arguments and errors."""
    with open_target(path, base, kind, create=True):
        pass


def remove_target(path: Path, base: Path) -> None:
    """Remove the target, an empty directory or an empty file; do nothing if it does not exist.

    Raises:
        InvalidRequest: see `open_target`.
        Busy: the target is still a mount point.
        Refused: the target holds data. As nothing is mounted there, it is not the volume's data.
    """
    try:
        with open_parent(path, base) as parent, _translated(path):
            status = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(path.name, dir_fd=parent)
            elif not stat.S_ISREG(status.st_mode):
                raise errors.InvalidRequest(
                    f"path {str(path)!r}: must be a directory or a file, is a link or a special "
                    "file, which this driver did not make; move it away, then repeat the call"
                )
            elif status.st_size:
                raise errors.Refused(_data_message(path))
            else:
                os.unlink(path.name, dir_fd=parent)
    except errors.NotFound:
        return


def components_below(path: Path, base: Path) -> tuple[str, ...]:
    """Return the path's components below `base`; raise InvalidRequest if it is not below `base`."""
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise errors.InvalidRequest(f"path {str(path)!r}: must be absolute and without '..'")
    if base not in path.parents:
        raise errors.InvalidRequest(
            f"path {str(path)!r}: must be inside {base}; if the kubelet uses another directory, "
            "set --kubelet-dir"
        )
    return path.relative_to(base).parts


@contextlib.contextmanager
def open_parent(path: Path, base: Path) -> Iterator[int]:
    """Open the directory above the target, for umount: `Target.fd` would keep the mount busy."""
    parts = components_below(path, base)
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
            f"path {path}: must be a {kind}, has mode {stat.filemode(mode)}; move it away, then "
            "repeat the call"
        )


@contextlib.contextmanager
def _translated(path: Path, name: str | None = None) -> Iterator[None]:
    location = f"path {path}" + (f", at {name!r}" if name and name != path.name else "")
    try:
        yield
    except FileNotFoundError as error:
        raise errors.NotFound(f"{location}: does not exist") from error
    except NotADirectoryError as error:
        raise errors.InvalidRequest(
            f"{location}: must be a directory, is a link or a file"
        ) from error
    except OSError as error:
        raise _error_of_errno(location, path, error) from error


def _error_of_errno(location: str, path: Path, error: OSError) -> errors.RbdCsiError:
    match errno.errorcode.get(error.errno or 0):
        case "ENAMETOOLONG" | "EINVAL" | "ELOOP":
            return errors.InvalidRequest(f"{location}: {error.strerror}")
        case "ENOTEMPTY" | "EEXIST":
            return errors.Refused(_data_message(path))
        case "EBUSY":
            return errors.Busy(
                f"{location}: is still a mount point; unmount it, then repeat the call"
            )
        case _:
            return errors.Failed(f"{location}: {error.strerror}")


def _data_message(path: Path) -> str:
    return (
        f"path {path}: nothing is mounted there, but it holds data, which is on this host's own "
        "disk and is kept; move the data to another path, then repeat the call"
    )


def overlap(one: Path, other: Path) -> bool:
    """Return whether one path is the other, or above or below it."""
    return one == other or one in other.parents or other in one.parents
