"""The command `rbdcsi` as an operator runs it, and the remedies that the doctor names."""

import json
import os
import pty
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.clusters import Cluster

Finding = dict[str, Any]
_SECONDS = 120


@dataclass(frozen=True)
class Shell:
    """A shell with the driver's program and configuration, and Ceph's tools."""

    program: Sequence[str]
    config: Path
    cluster: Cluster

    def run(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run `rbdcsi WORDS`; with an answer, at a terminal at which a person types it."""
        argv = [*self.program, *words, "--config", str(self.config)]
        if not answer:
            return self._run(argv, subprocess.DEVNULL)
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, f"{answer}\n".encode())
            return self._run(argv, terminal)
        finally:
            os.close(keyboard)
            os.close(terminal)

    def json(self, *words: str) -> Any:
        """Run `rbdcsi WORDS --json` and return what it prints."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def findings(self) -> list[Finding]:
        """Return what the doctor finds."""
        done = self.run("doctor", "--json")
        assert done.returncode in {0, 1}, done.stderr
        findings: list[Finding] = json.loads(done.stdout)["findings"]
        assert bool(findings) == bool(done.returncode)
        return findings

    def mend(self, finding: Finding) -> None:
        """Run the commands of a finding, as a person would who answers yes."""
        for line in finding["commands"]:
            tool, *words = shlex.split(line)
            if tool == "rbdcsi":
                done = self.run(*words, answer="y")
                assert done.returncode == 0, f"{line}: {done.stderr}"
            else:
                run = {"ceph": self.cluster.ceph, "rbd": self.cluster.rbd}.get(tool)
                (run or self.cluster.rados)(*words)

    def _run(self, argv: Sequence[str], stdin: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, stdin=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
