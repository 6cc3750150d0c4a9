"""A node whose programs wait at a gate, or fail, when they are told to (tests/bin/slow)."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e import processes
from e2e.clusters import commands
from e2e.driver import Driver

_SLOW = Path(__file__).parents[2] / "bin/slow"
_TOOLS = ("mkfs.ext4", "e2fsck", "xfs_growfs", "qemu-storage-daemon")


@dataclass(frozen=True)
class SlowNode:
    """The node, and the directory with its gates."""

    node: Driver
    directory: Path

    @contextlib.contextmanager
    def waiting(self, tool: str) -> Iterator[None]:
        """Let the program wait during the body; nothing waits after it."""
        gate = self.directory / f"{tool}.gate"
        os.mkfifo(gate)
        try:
            yield
        finally:
            gate.unlink(missing_ok=True)

    def started(self, tool: str) -> list[str]:
        """Return the arguments of each run of the program."""
        file = self.directory / f"{tool}.started"
        return file.read_text().splitlines() if file.exists() else []

    def let_go(self, tool: str, exit_code: str = "") -> None:
        """Let the waiting program go on, or end with an exit code; return when it has ended."""
        (self.directory / f"{tool}.gate").write_text(f"{exit_code}\n")
        commands.wait_until(lambda: not self.pids(tool), f"{tool} has ended")

    def pids(self, tool: str) -> list[int]:
        """Return the processes of that program that the node started."""
        return [
            process.pid
            for process in processes.descendants(self.node.pid)
            if tool in process.command
        ]


def prepare(node: Driver) -> SlowNode:
    """Put the gates before the programs of a node that is not started yet."""
    directory = node.directory / "slow"
    directory.mkdir()
    for tool in _TOOLS:
        (directory / tool).symlink_to(_SLOW)
    node.environment = {"PATH": f"{directory}:{os.environ['PATH']}", "SLOW": str(directory)}
    return SlowNode(node, directory)
