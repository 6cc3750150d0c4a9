"""Nodes on this machine, with the fuse mapper: a plugin, its daemons, and its workload's writers.

They share a kernel and a boot, so a killed node loses its processes and not its mounts. None can be
cut off from a Ceph that is on the same machine.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rados

from e2e import driver, leftovers, processes, sweep
from e2e.clusters import Cluster, commands
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver, Installation
from e2e.failover import by_hand
from e2e.failover.node import WRITER, Fault
from e2e.failover.story import Scene
from e2e.pool import wait_until_registered
from rbdcsi.api import csi_pb2_grpc
from rbdcsi.host.mappers import storage_daemon

FAULTS = (Fault.KILLED, Fault.FROZEN, Fault.ALIVE)
_SECONDS = 30.0
_POOL = "failover"


@dataclass
class Here:
    """A node on this machine."""

    driver: Driver
    faults: Sequence[Fault] = FAULTS
    _writers: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """See Failing.name."""
        return self.driver.name

    @property
    def kubelet(self) -> Path:
        """See Node.kubelet."""
        return self.driver.kubelet

    @property
    def node(self) -> csi_pb2_grpc.NodeStub:
        """See Node.node."""
        return self.driver.node

    def make_directory(self, path: Path) -> None:
        """See Node.make_directory."""
        self.driver.make_directory(path)

    def run(self, line: str) -> str:
        """See Failing.run."""
        return commands.run(["bash", "-euo", "pipefail", "-c", line]).strip()

    def start_writer(self, file: Path, name: str) -> None:
        """See Failing.start_writer."""
        with self._log.open("ab") as log:
            argv = (sys.executable, "-I", WRITER, "write", file, name)
            self._writers.append(processes.start(argv, log.fileno()))

    def end_writers(self) -> None:
        """See Failing.end_writers."""
        for writer in self._writers:
            writer.kill()
        for writer in self._writers:
            writer.wait(_SECONDS)
        self._writers.clear()

    def said(self) -> str:
        """See Failing.said."""
        return self._log.read_text() if self._log.exists() else ""

    def fail(self, fault: Fault) -> None:
        """See Failing.fail."""
        match fault:
            case Fault.KILLED:
                self.end_writers()
                for pid in self._daemons().values():
                    os.kill(pid, signal.SIGKILL)
                self.driver.kill()
            case Fault.FROZEN:
                self._signal(signal.SIGSTOP)
            case Fault.ALIVE:
                pass
            case Fault.CUT_OFF:
                raise NotImplementedError

    def come_back(self, fault: Fault) -> None:
        """See Failing.come_back."""
        match fault:
            case Fault.KILLED:
                self.driver.start()
            case Fault.FROZEN:
                self._signal(signal.SIGCONT)
            case Fault.ALIVE:
                pass
            case Fault.CUT_OFF:
                raise NotImplementedError

    def held(self) -> Sequence[str]:
        """See Failing.held."""
        return leftovers.at_node(self.driver.directory)

    @property
    def _log(self) -> Path:
        return self.driver.directory / "writers.log"

    def _daemons(self) -> dict[Path, int]:
        running = storage_daemon.running()
        return {f: pid for f, pid in running.items() if f.is_relative_to(self.driver.directory)}

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to all that is of this node, writers first."""
        family = [writer.pid for writer in self._writers]
        for pid in (*family, self.driver.pid, *self._daemons().values()):
            os.kill(pid, number)


def scene(cluster: Cluster, installation: Installation, pool: str, admin: rados.Rados) -> Scene:
    """Return a scene on this machine, with a controller and two nodes that run and are registered.

    Args:
        cluster: the Ceph.
        installation: the driver, configured for the pool.
        pool: of the volumes; the home location, too.
        admin: a connection of the cluster's own user.
    """
    controller = installation.controller().start()
    old, new = (installation.node(name).start() for name in ("node-old", "node-new"))
    ioctx = admin.open_ioctx(pool)
    for node in (old, new):
        wait_until_registered(ioctx, node.name)
    files = str(cluster.conf), str(cluster.keyring)

    def by_hand_of(image: str) -> by_hand.Move:
        directory = Path(tempfile.mkdtemp(prefix="hand-", dir=installation.directory))
        return by_hand.Move(cluster, Here(new), "fuse", image, *files, directory)

    return Scene(cluster, pool, ioctx, admin, controller, Here(old), Here(new), "fuse", by_hand_of)


@contextlib.contextmanager
def at_work() -> Iterator[Scene]:
    """Give a scene with a Ceph of its own; all ends with the body."""
    with (
        tempfile.TemporaryDirectory(prefix="fo-") as name,
        sweep.at_end(Path(name)),
        LocalCluster() as cluster,
        cluster.connection() as admin,
    ):
        cluster.create_pool(_POOL)
        admin.wait_for_latest_osdmap()
        with driver.installed(cluster, Path(name), _POOL) as installation:
            made = scene(cluster, installation, _POOL, admin)
            try:
                yield made
            finally:
                made.ioctx.close()
