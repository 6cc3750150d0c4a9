"""Child processes that cannot outlive the process that started them, however that ends."""

import os
import subprocess
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The kernel ends the child with its parent; the shell looks whether the parent died before that.
_MORTAL = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


class Spawner:
    """Starts such children; they may live until it is closed."""

    def __init__(self, name: str) -> None:
        # The kernel's "parent died" means the *thread*: one that lives as long as this object.
        self._thread = ThreadPoolExecutor(1, name)

    def spawn(
        self, argv: Sequence[str | Path], output: Path, pass_fds: Collection[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a child without input.

        Args:
            argv: program and arguments.
            output: the file that takes what it prints; it is written anew.
            pass_fds: descriptors that it inherits under the same numbers.
        """
        return self._thread.submit(self._spawn, argv, output, pass_fds).result()

    def close(self) -> None:
        """End the thread, and with it every child that still runs."""
        self._thread.shutdown()

    def _spawn(
        self, argv: Sequence[str | Path], output: Path, pass_fds: Collection[int]
    ) -> subprocess.Popen[bytes]:
        with output.open("wb") as said:
            return subprocess.Popen(
                [*_MORTAL, str(os.getpid()), *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(pass_fds),
                start_new_session=True,  # the terminal's Ctrl-C is for the parent alone
            )
