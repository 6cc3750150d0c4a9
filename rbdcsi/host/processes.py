"""The users of a mount or a device, as text for error messages; empty if /proc shows none.

Links in /proc are read and never followed: following a link into a dead mount could hang.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rbdcsi.host.fs import mountinfo

_PROC = Path("/proc")
_SELF = _PROC / "self"
_SHOWN = 5
HIDDEN_USER = "a user that /proc does not show"


def users_of_path(path: Path, except_pid: int | None = None) -> str:
    """Name the processes with an open file, working directory or root at or below the path.

    Args:
        path: the target of a mount, or a device.
        except_pid: a process that is left out.
    """
    target, below = str(path), f"{path}/"
    return _shortened(
        f"pid {process.name} ({_name(process)}): {link}"
        for process in _processes()
        if process.name != str(except_pid)
        for link in _links(process)
        if link == target or link.startswith(below)
    )


def mounts_of_device(major_minor: str) -> str:
    """Name the mounts of that device, with one process for each mount namespace."""
    return _shortened(
        f"a mount at {entry.target}{_namespace(process)}"
        for process in _one_of_each_namespace()
        for entry in _mounts(process)
        if entry.major_minor == major_minor
    )


def _shortened(descriptions: Iterator[str]) -> str:
    lines = list(dict.fromkeys(descriptions))
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    text = "; ".join(lines[:_SHOWN]) + more
    # A path need not be UTF-8, but a message must be.
    return os.fsencode(text).decode(errors="backslashreplace")


def _processes() -> Iterator[Path]:
    return (entry for entry in _PROC.iterdir() if entry.name.isdecimal())


def _one_of_each_namespace() -> list[Path]:
    first: dict[str, Path] = {}
    for process in (_SELF, *_processes()):
        with contextlib.suppress(OSError):
            first.setdefault(str((process / "ns/mnt").readlink()), process)
    return list(first.values())


def _namespace(process: Path) -> str:
    """Name the process's mount namespace, unless it is the driver's own."""
    return "" if process == _SELF else f" in the namespace of pid {process.name} ({_name(process)})"


def _links(process: Path) -> set[str]:
    """Return the paths of the process's open files, working directory and root, as strings.

    There are thousands, so a Path for each would be slow.
    """
    links = set()
    with contextlib.suppress(OSError):  # the process has ended
        for link in (f"{process}/cwd", f"{process}/root", *_descriptors(f"{process}/fd")):
            with contextlib.suppress(OSError):
                links.add(os.readlink(link))  # noqa: PTH115  no Path for each
    return links


def _descriptors(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.path for entry in entries]


def _mounts(process: Path) -> tuple[mountinfo.MountEntry, ...]:
    with contextlib.suppress(OSError):
        return mountinfo.parse(os.fsdecode((process / "mountinfo").read_bytes()))
    return ()


def _name(process: Path) -> str:
    with contextlib.suppress(OSError):
        return (process / "comm").read_text(errors="replace").strip()
    return "ended"
