"""A node that fails and comes back, or goes on: the verbs of the story, on any kind of machine."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from e2e.volume import Node

WRITER = Path(__file__).with_name("writer.py")


class Fault(enum.Enum):
    """How a node fails."""

    KILLED = "killed"  # the power goes; it boots afterwards
    CUT_OFF = "cut off"  # it loses the network, and gets it back afterwards
    FROZEN = "frozen"  # it stands still, and goes on afterwards as if nothing had happened
    ALIVE = "alive"  # it does not: nothing is wrong with it, and its workload writes


class Failing(Node, Protocol):
    """A node with the machine that it is on."""

    @property
    def name(self) -> str:
        """The node id."""

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that can be had here."""

    def run(self, line: str) -> str:
        """Run a line of shell on its machine, stopping at the first error; return the output."""

    def start_writer(self, file: Path, name: str) -> None:
        """Start a writer that writes into the file under that name."""

    def end_writers(self) -> None:
        """End every writer, as the end of its Pod would."""

    def said(self) -> str:
        """Return the reports of every writer; it works whatever state the machine is in."""

    def fail(self, fault: Fault) -> None:
        """Let the node fail."""

    def come_back(self, fault: Fault) -> None:
        """End the fault; after it the node plugin runs."""

    def held(self) -> Sequence[str]:
        """Return in words everything that staging could leave here."""
