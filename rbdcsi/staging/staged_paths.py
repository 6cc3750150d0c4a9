"""The paths at which volumes are staged, kept on the node's disk.

NodeUnpublishVolume has the target path only, and the mount of a stage looks like that of a publish.
So the stager notes its path before it mounts, and NodeUnpublishVolume leaves such a path alone. The
notes outlive the plugin. One that a crash or a reboot left, without a mount, counts for nothing.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.model import stored

_log = structlog.get_logger()


@dataclass(frozen=True)
class _Note:
    path: str


_NOTE = stored.Kind(
    _Note,
    name="note of a staging path",
    remedy="so NodeUnpublishVolume of that path is not refused",
)


class StagedPaths:
    """The notes, one file for each path, in a directory that the first one creates."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """Note the path for the body, which mounts a volume there; the note stays after it.

        If the body fails, the note goes, unless a mount may still appear.
        """
        self._add(path)
        try:
            yield
        except errors.RbdCsiError as error:
            if not isinstance(error, errors.ChildAlive | errors.DeadlineExceeded):
                self.remove(path)
            raise

    def remove(self, path: Path) -> None:
        """Remove the note; do nothing if there is none."""
        self._file(path).unlink(missing_ok=True)

    def overlapping(self, path: Path) -> list[Path]:
        """Return the noted paths that are the path, or above or below it."""
        return [staged for staged in self._paths() if overlap(staged, path)]

    def _add(self, path: Path) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._file(path)
        draft = file.with_suffix(".new")
        draft.write_text(_NOTE.encode(_Note(str(path))))
        draft.rename(file)

    def _file(self, path: Path) -> Path:
        return self._directory / hashlib.blake2b(str(path).encode(), digest_size=16).hexdigest()

    def _paths(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):  # no volume was staged yet
            for file in self._directory.iterdir():
                with contextlib.suppress(FileNotFoundError):  # another call removed it just now
                    yield from _path_in(file)


def overlap(one: Path, other: Path) -> bool:
    """Return whether one path is the other, or above or below it."""
    return one == other or one in other.parents or other in one.parents


def _path_in(file: Path) -> Iterator[Path]:
    if file.suffix:  # a draft
        return
    try:
        yield Path(_NOTE.decode(file.read_text(errors="backslashreplace"), str(file)).path)
    except errors.Failed as error:
        _log.warning("skipped a damaged note", error=str(error))
