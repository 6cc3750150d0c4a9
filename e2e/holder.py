"""Something that a process holds: started to stay, found again, ended by a later command.

The holder's own exit, whatever causes it, ends what it holds.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from e2e import errors
from e2e.clusters import commands
from rbdcsi.runtime.readable import wait_until_readable


@dataclass(frozen=True)
class Holder:
    """A process that holds something.

    Attributes:
        what: in words, such as "the cluster".
        directory: of what it holds; gone when that is.
        module: the Python module whose command `hold` is the holder.
        seconds: how long a start may take.
    """

    what: str
    directory: Path
    module: str
    seconds: float

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the holder said of what it holds."""
        facts: Mapping[str, Any] = json.loads(self._note.read_text())
        return facts

    @contextlib.contextmanager
    def found(self) -> Iterator[int | None]:
        """Give a handle of the holder, or None; by command line too: process ids are reused."""
        try:
            pid = self.facts["holder"]
            handle = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError):
            yield None
            return
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            yield handle if line.endswith(f"{self.module}\0hold\0".encode()) else None
        finally:
            os.close(handle)

    def start(self) -> None:
        """Start it, unless it runs, and return when it has said its facts.

        Raises:
            Failed: it ended; the message is what it said.
            DeadlineExceeded: it takes too long, and was ended.
        """
        with self.found() as running:
            if running is None:
                self._launch()

    def stop(self) -> bool:
        """End it, and return when it has; whether it ran."""
        with self.found() as running:
            if running is None:
                return False
            signal.pidfd_send_signal(running, signal.SIGTERM)
            if not wait_until_readable(running, 60):
                raise errors.DeadlineExceeded(
                    f"the holder of {self.directory} did not end within 60 s"
                )
        return True

    def hold(self, facts: Mapping[str, object]) -> None:
        """Say the facts, as the holder itself, and wait for the signal that ends it."""
        draft = self._note.with_suffix(".new")
        draft.write_text(json.dumps({"holder": os.getpid(), **facts}))
        draft.rename(self._note)  # whoever sees it sees all of it
        signal.pause()

    @property
    def _note(self) -> Path:
        return self.directory / "holder.json"

    @property
    def _argv(self) -> Sequence[str]:
        return [sys.executable, "-m", self.module, "hold"]

    def _launch(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)  # of a holder that a power cut ended
        with tempfile.TemporaryFile("w+") as said:
            holder = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

            def decided() -> bool:
                return self._note.exists() or holder.poll() is not None

            try:
                commands.wait_until(decided, f"{self.what} runs", self.seconds)
            except BaseException:  # Ctrl-C, too: nothing half-started stays
                holder.terminate()
                holder.wait(60)
                raise
            if holder.returncode is not None:
                said.seek(0)
                raise errors.Failed(f"{self.what} did not start:\n{said.read()}")


def program(
    words: str, held: Holder, usage: Callable[[], str], own: Callable[[], None]
) -> click.Group:
    """Return the commands `start`, `stop` and `status`, and `hold`, which is the holder.

    Args:
        words: the help.
        held: what they are about.
        usage: says how to use it, while it runs.
        own: what the holder does; it calls `held.hold`.
    """
    group = click.Group(help=words)

    @group.command()
    def start() -> None:
        """Start it, leave it running, and say how to use it."""
        held.start()
        print(usage())

    @group.command()
    def stop() -> None:
        """End exactly what `start` left running."""
        print(f"ended; {held.directory} is gone" if held.stop() else f"{held.what} does not run")

    @group.command()
    def status() -> None:
        """Say whether it runs, and how to use it."""
        with held.found() as running:
            print(f"{held.what} does not run" if running is None else usage())

    @group.command(hidden=True)
    def hold() -> None:
        """Own it until a signal comes."""
        # as an exit would: everything that is open is closed
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        own()

    return group
