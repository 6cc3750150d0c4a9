"""Ceph's daemons as child processes that cannot outlive the process that started them."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from e2e import errors, processes
from e2e.clusters.cluster import Role

NAMES: Mapping[Role, str] = {"mon": "a", "mgr": "a", "osd": "0"}
# Removes the directory as soon as its standard input ends, which a killed parent also causes;
# dying daemons may still write for a moment, hence the repeats.
SWEEP = 'cat; for i in $(seq 100); do rm -rf "$0" && exit; sleep 0.1; done'


class ChildDaemons:
    """Starts and stops mon, mgr and osd in the foreground, with the cluster's own ceph.conf."""

    def __init__(self, conf: Path, logs: Path) -> None:
        self._conf = conf
        self._logs = logs
        self._children: dict[Role, subprocess.Popen[bytes]] = {}
        self._spawner = processes.Spawner("ceph-daemons")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children.values():
            child.kill()  # also ends a frozen one; nothing of this cluster is kept
            child.wait()
        self._spawner.close()

    @property
    def pids(self) -> Mapping[Role, int]:
        """The process id of each daemon that runs now."""
        return {role: child.pid for role, child in self._children.items() if child.poll() is None}

    def pid(self, role: Role) -> int:
        """Return the process id of the daemon, which runs."""
        return self.pids[role]

    def start(self, role: Role) -> None:
        """Start the daemon unless it runs; it answers some time later."""
        if role not in self.pids:
            daemon = [f"ceph-{role}", "-f", "-i", NAMES[role], "--conf", str(self._conf)]
            self._children[role] = self._spawner.spawn(daemon, self._output(role))

    def stop(self, role: Role) -> None:
        """End the daemon in order, within 30 s, else by force."""
        child = self._children[role]
        child.terminate()
        child.send_signal(signal.SIGCONT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def check(self) -> None:
        """Do nothing while all started daemons run.

        Raises:
            Failed: one has ended; the message has the end of what it said.
        """
        for role in self._children.keys() - self.pids.keys():
            said = self._output(role).read_text(errors="replace").strip()
            code = self._children[role].returncode
            raise errors.Failed(f"ceph-{role} ended with {code}: {said[-2000:]}")

    def _output(self, role: Role) -> Path:
        return self._logs / f"{role}.out"


class SweptDirectory:
    """Removes an existing directory at the end, even when this process is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sweeper = subprocess.Popen(
            ["sh", "-c", SWEEP, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Path:
        return self._path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sweeper.communicate(timeout=60)
