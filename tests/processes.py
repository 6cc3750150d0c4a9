"""The process tree as /proc shows it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Process:
    """A process that runs."""

    pid: int
    parent: int
    state: str
    command: str

    @classmethod
    def from_proc(cls, directory: Path) -> Self:
        """Read /proc/PID; raises OSError when it has ended meanwhile."""
        # proc(5): the second field is the name in parentheses, which may hold any character.
        name, rest = (directory / "stat").read_text().rsplit(")", 1)
        words = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state, parent, *_ = rest.split()
        command = words.strip() or name.split("(", 1)[1]
        return cls(int(directory.name), int(parent), state, command)


def running() -> Iterator[Process]:
    """Yield all processes of this machine but zombies, which hold nothing any more."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            process = Process.from_proc(directory)
            if process.state != "Z":
                yield process


def descendants(pid: int) -> list[Process]:
    """Return the children of `pid`, and theirs, and so on."""
    everybody = list(running())
    family = {pid}
    while grown := {process.pid for process in everybody if process.parent in family} - family:
        family |= grown
    return [process for process in everybody if process.pid in family - {pid}]
