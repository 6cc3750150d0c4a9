"""Child processes: started so that none outlives this process, and the tree that /proc shows.

Whatever the test bed starts goes through `start` or a `Spawner`, but for what has to clean up after
this process was killed (`clusters.daemons.SweptDirectory`) or is to stay (`holder`).
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

# The kernel ends the child with its parent; the shell looks whether the parent died before that.
_MORTAL = ("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


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


class Spawner:
    """Starts children that may live until it is closed."""

    def __init__(self, name: str) -> None:
        # The kernel's "parent died" means the *thread*: one that lives as long as this object.
        self._thread = ThreadPoolExecutor(1, name)

    def spawn(
        self,
        argv: Sequence[str | Path],
        output: Path | int,
        pass_fds: Collection[int] = (),
        *,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.STDOUT,
        environment: Mapping[str, str] | None = None,
        ending: Literal["KILL", "TERM"] = "KILL",
    ) -> subprocess.Popen[bytes]:
        """Start a child in a session of its own: the terminal's Ctrl-C is for the parent alone.

        Args:
            argv: program and arguments.
            output: takes what it prints: a file, which is written anew, or as for `subprocess`.
            pass_fds: descriptors that it inherits under the same numbers.
            stdin: as for `subprocess`.
            stderr: as for `subprocess`; by default together with `output`.
            environment: variables beside those of this process.
            ending: the signal that it gets when this process ends.
        """

        def spawn() -> subprocess.Popen[bytes]:
            with contextlib.ExitStack() as opened:
                if isinstance(output, Path):
                    stdout: int = opened.enter_context(output.open("wb")).fileno()
                else:
                    stdout = output
                words = ("setpriv", "--pdeathsig", ending, *_MORTAL, str(os.getpid()), *argv)
                return subprocess.Popen(
                    [str(word) for word in words],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env={**os.environ, **(environment or {})},
                    pass_fds=tuple(pass_fds),
                    start_new_session=True,
                )

        return self._thread.submit(spawn).result()

    def close(self) -> None:
        """End the thread, and with it every child that still runs."""
        self._thread.shutdown()


start = Spawner("children").spawn  # for children that live as long as this process at most


def adopt() -> None:
    """Become the parent of every descendant that loses its own, so that none slips away."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
