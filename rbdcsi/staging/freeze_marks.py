"""Marks on this node's disk: which filesystems this plugin may have frozen.

A mark is written before the freeze and removed after the thaw. The child that freezes has the
mark's file locked: it is safe to thaw, and to remove the mark, only when that child has ended.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from rbdcsi import errors
from rbdcsi.model import ids, stored

_log = structlog.get_logger()

_SUFFIX = ".json"


@dataclass(frozen=True)
class FreezeMark:
    """A volume whose filesystem may be frozen, and the device that mounts of it name."""

    volume: str
    device: str
    unknown: Mapping[str, Any] = stored.unknown_fields()


MARK = stored.Kind(
    FreezeMark,
    name="mark of a frozen filesystem",
    remedy="so a filesystem of that volume may stay frozen: `fsfreeze --unfreeze` thaws it, then "
    "remove the file",
)


class FreezeMarks:
    """The marks, one file a volume, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def all(self) -> list[ids.VolumeHandle]:
        """Return the volumes that have a mark."""
        files = self._directory.glob(f"*{_SUFFIX}")
        return [ids.parse(file.name.removesuffix(_SUFFIX)) for file in files]

    @contextlib.contextmanager
    def write(self, handle: ids.VolumeHandle, device: Path) -> Iterator[int]:
        """Write the volume's mark, and yield a descriptor that keeps it locked for the body.

        A child that inherits the descriptor keeps it locked until it has ended.
        """
        file = self._file(handle)
        draft = file.with_suffix(".new")
        draft.write_text(MARK.encode(FreezeMark(str(handle), str(device))))
        fd = _locked(draft)
        try:
            draft.rename(file)
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def read(self, handle: ids.VolumeHandle) -> Iterator[FreezeMark | None]:
        """Yield the volume's mark, None if it has none, and keep it locked for the body.

        Raises:
            Busy: the child that freezes lives.
            Failed: the mark is damaged.
        """
        file = self._file(handle)
        try:
            fd = _locked(file)
        except FileNotFoundError:
            yield None
            return
        except BlockingIOError as error:
            raise errors.Busy(
                f"the filesystem of volume {handle} is frozen for a snapshot, for some seconds; "
                "try again"
            ) from error
        try:
            yield MARK.decode(file.read_text(errors="backslashreplace"), str(file))
        finally:
            os.close(fd)

    def remove(self, handle: ids.VolumeHandle) -> None:
        """Remove the volume's mark; its filesystem is thawed."""
        self._file(handle).unlink(missing_ok=True)

    def _file(self, handle: ids.VolumeHandle) -> Path:
        return self._directory / f"{handle}{_SUFFIX}"


def _locked(file: Path) -> int:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
