"""Parses /proc/self/mountinfo into frozen records; pure.

The format is in the kernel's Documentation/filesystems/proc.rst, section 3.5, and proc(5).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class MountEntry:
    """One mount: `target` shows the directory `root` of the filesystem on the device `source`."""

    mount_id: int
    parent_id: int
    major_minor: str
    root: str
    target: Path
    options: tuple[str, ...]
    super_options: tuple[str, ...]
    fs_type: str
    source: str

    @property
    def refuses_writes(self) -> bool:
        """Whether this mount refuses writes, also if its filesystem takes them elsewhere."""
        return "ro" in self.options

    @property
    def readonly(self) -> bool:
        """Whether the mount refuses writes, by its own options or by those of its filesystem."""
        return self.refuses_writes or "ro" in self.super_options


def parse(text: str) -> tuple[MountEntry, ...]:
    """Return the mounts in the kernel's order: of several at one target, the last one is on top."""
    return tuple(_entry(line) for line in text.split("\n") if line)


def find(text: str, mount_id: int) -> MountEntry | None:
    """Return the mount with that id, None if the text has none; the other lines are not parsed."""
    lines = (line for line in text.split("\n") if line.startswith(f"{mount_id} "))
    return next(map(_entry, lines), None)


def is_last(entry: MountEntry, mounts: Sequence[MountEntry]) -> bool:
    """Return whether the filesystem ends with this mount: no other one keeps it.

    A copy that the kernel has propagated to a peer keeps nothing, as it ends with this mount.

    Args:
        entry: one of the mounts.
        mounts: every mount that this process sees.
    """
    directory = _directory(entry, mounts)
    same = (each for each in mounts if each.major_minor == entry.major_minor)
    others = {_directory(each, mounts) for each in same} - {directory, None}
    return directory is None or not others


def _directory(entry: MountEntry, mounts: Sequence[MountEntry]) -> tuple[str, Path] | None:
    """Return the directory under the mount, by its filesystem; None if that is not mounted here."""
    for parent in mounts:
        if parent.mount_id == entry.parent_id and entry.target.is_relative_to(parent.target):
            below = entry.target.relative_to(parent.target)
            return parent.major_minor, Path(parent.root) / below
    return None


def _entry(line: str) -> MountEntry:
    # Optional fields stand between the options and the hyphen; both halves begin with fixed fields.
    left, _, right = line.partition(" - ")
    mount_id, parent_id, major_minor, root, target, options = left.split(" ")[:6]
    fs_type, source, super_options = right.split(" ")[:3]
    return MountEntry(
        mount_id=int(mount_id),
        parent_id=int(parent_id),
        major_minor=major_minor,
        root=_unescape(root),
        target=Path(_unescape(target)),
        options=tuple(options.split(",")),
        super_options=tuple(super_options.split(",")),
        fs_type=_unescape(fs_type),
        source=_unescape(source),
    )


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
