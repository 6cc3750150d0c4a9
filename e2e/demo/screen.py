"""What the demo shows: a line for each step with its time, what was seen, and a table at the end.

Plain lines where standard output is no terminal, such as the log of a CI run.
"""

import contextlib
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2e.demo import signals

_WIDTH = 22  # of the column of step names
_INDENT = " " * 8


@dataclass
class Note:
    """What a step says of itself once it is done."""

    words: str = ""


@dataclass(frozen=True)
class Screen:
    """Prints and remembers the steps."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str, *, always: bool = False) -> Iterator[Note]:
        """Show the body as a step; on a terminal as one under way while it lasts.

        Args:
            name: of the step.
            always: do it when the demo is interrupted, too.
        """
        if not always:
            signals.check()
        note, begun, outcome = Note(), time.monotonic(), "[red]not done[/red]"
        try:
            with self.console.status(f"{name} ..."):
                yield note
            outcome = "[green]ok[/green]"
        finally:
            seconds = time.monotonic() - begun
            self.steps.append((name, seconds))
            line = f"{name:<{_WIDTH}} {seconds:7.3f} s  {outcome}  {escape(note.words)}"
            self._line(line.rstrip())

    def say(self, words: str = "") -> None:
        """Show a line that is no step."""
        self._line(escape(words))

    def command(self, line: str, answer: str) -> None:
        """Show a command and what it said."""
        self._line(f"{_INDENT}[cyan]$ {escape(line)}[/cyan]")
        for answered in answer.splitlines():
            self._line(f"{_INDENT}[dim]{escape(answered.rstrip())}[/dim]")

    def quote(self, words: str) -> None:
        """Show what the driver said."""
        for line in textwrap.wrap(words, 88):
            self._line(f"{_INDENT}[yellow]{escape(line)}[/yellow]")

    def table(self) -> None:
        """Show the times of all steps."""
        table = Table("step", title_justify="left")
        table.add_column("seconds", justify="right")
        for name, seconds in self.steps:
            table.add_row(name, f"{seconds:.3f}")
        table.add_section()
        table.add_row("all", f"{sum(seconds for _, seconds in self.steps):.3f}")
        self.console.print(table)

    def _line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)
