"""Who uses a mount or a device, as far as /proc tells: words for an error message, no decision.

No users give an empty string. Links are read, never followed: that could hang on a dead mount.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rbdcsi.host.fs import mountinfo

_PROC = Path("/proc")
_SELF = _PROC / "self"
_SHOWN = 5
NOBODY = "nobody that /proc shows"


def using(path: Path, but: int | None = None) -> str:
    """Name the programs with an open file, working directory or root at or below the path.

    Args:
        path: of a mount or a device.
        but: a process that is not counted.
    """
    wanted, below = str(path), f"{path}/"
    return _listed(
        f"pid {process.name} ({_name(process)}): {link}"
        for process in _processes()
        if process.name != str(but)
        for link in _links(process)
        if link == wanted or link.startswith(below)
    )


def mounting(major_minor: str) -> str:
    """Name the mounts of that device, one program for each mount namespace."""
    return _listed(
        f"a mount at {entry.target}{_where(process)}"
        for process in _one_for_each_namespace()
        for entry in _mounts(process)
        if entry.major_minor == major_minor
    )


def _listed(found: Iterator[str]) -> str:
    names = list(dict.fromkeys(found))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more


def _processes() -> Iterator[Path]:
    return (entry for entry in _PROC.iterdir() if entry.name.isdecimal())


def _one_for_each_namespace() -> list[Path]:
    first: dict[str, Path] = {}
    for process in (_SELF, *_processes()):
        with contextlib.suppress(OSError):
            first.setdefault(str((process / "ns/mnt").readlink()), process)
    return list(first.values())


def _where(process: Path) -> str:
    """Name a mount namespace that is not our own."""
    return "" if process == _SELF else f" in the namespace of pid {process.name} ({_name(process)})"


def _links(process: Path) -> set[str]:
    """Read what the process holds; as strings, for there are thousands."""
    found = set()
    with contextlib.suppress(OSError):  # it ended meanwhile
        for link in (f"{process}/cwd", f"{process}/root", *_descriptors(f"{process}/fd")):
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))  # noqa: PTH115  no Path for each
    return found


def _descriptors(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.path for entry in entries]


def _mounts(process: Path) -> tuple[mountinfo.MountEntry, ...]:
    with contextlib.suppress(OSError):
        return mountinfo.parse((process / "mountinfo").read_text())
    return ()


def _name(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "comm").read_text().strip()
    return "ended"
