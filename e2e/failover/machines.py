"""Nodes in virtual machines with kernels of their own, for krbd and nbd.

The writers report on a serial line of the machine, which is a file of this machine: it can be read
when the machine is frozen or cut off, and outlives it.
"""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rados

from e2e import vm
from e2e.clusters import Cluster, node_caps
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver, installed
from e2e.failover import by_hand
from e2e.failover.node import WRITER, Fault
from e2e.failover.story import Scene
from e2e.pool import wait_until_registered
from e2e.vm.node import Node, compile_driver
from rbdcsi.api import csi_pb2_grpc
from rbdcsi.host.fs import mountinfo

_CONF, _KEYRING = "/etc/ceph/ceph.conf", "/etc/ceph/ceph.client.admin.keyring"
_POOL = "failover"
_WRITER_LOG = "/run/writers.log"
# What no test of the machine's own needs: devices, daemons, the notes and states of mappers.
_HELD = (
    "ls /sys/bus/rbd/devices; pgrep -a -r R,S,D,T rbd-nbd || true; "
    "find /run/rbdcsi {plugin}/state -type f 2>/dev/null || true"
)
# One that has ended is there until the machine's init looks.
_END = (
    "for pid in {pids}; do kill -KILL $pid 2>/dev/null || true; "
    'while grep -qsv ") Z " "/proc/$pid/stat"; do sleep 0.1; done; done'
)


@dataclass
class InMachine:
    """A node in a virtual machine."""

    vm: Node
    faults: Sequence[Fault] = tuple(Fault)
    _writers: list[int] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """See Failing.name."""
        return self.vm.name

    @property
    def kubelet(self) -> Path:
        """See Node.kubelet."""
        return self.vm.kubelet

    @property
    def node(self) -> csi_pb2_grpc.NodeStub:
        """See Node.node."""
        return self.vm.node

    def make_directory(self, path: Path) -> None:
        """See Node.make_directory."""
        self.vm.make_directory(path)

    def run(self, line: str) -> str:
        """See Failing.run."""
        return self.vm.run(line)

    def start_writer(self, file: Path, name: str) -> None:
        """See Failing.start_writer."""
        words = shlex.join(["/usr/bin/python3", "-I", str(WRITER), "write", str(file), name])
        line = f"exec {words} >{vm.REPORTS}"
        self._writers.append(self.vm.machine.spawn(_WRITER_LOG, "sh", "-c", line))

    def end_writers(self) -> None:
        """See Failing.end_writers."""
        pids = " ".join(str(pid) for pid in self._writers)
        self.vm.run(_END.format(pids=pids))
        self._writers.clear()

    def said(self) -> str:
        """See Failing.said."""
        return self.vm.machine.reports()

    def fail(self, fault: Fault) -> None:
        """See Failing.fail."""
        machine = self.vm.machine
        match fault:
            case Fault.KILLED:
                machine.kill()
                self.vm.forget()
                self._writers.clear()
            case Fault.CUT_OFF:
                machine.cut()
            case Fault.FROZEN:
                machine.freeze()
            case Fault.ALIVE:
                pass

    def come_back(self, fault: Fault) -> None:
        """See Failing.come_back."""
        machine = self.vm.machine
        match fault:
            case Fault.KILLED:
                machine.start()
                self.vm.start()
            case Fault.CUT_OFF:
                machine.join()
            case Fault.FROZEN:
                machine.thaw()
            case Fault.ALIVE:
                pass

    def held(self) -> Sequence[str]:
        """See Failing.held."""
        plugin = self.vm.kubelet / "plugins/rbdcsi"
        entries = mountinfo.parse(self.vm.machine.read("/proc/self/mountinfo"))
        places = (self.vm.kubelet / "staging", self.vm.kubelet / "pods")
        return [
            *(f"mount {e.target}" for e in entries if any(map(e.target.is_relative_to, places))),
            *self.vm.run(_HELD.format(plugin=plugin)).splitlines(),
        ]


def scene(
    cluster: Cluster,
    controller: Driver,
    nodes: tuple[Node, Node],
    ioctx: rados.Ioctx,
    admin: rados.Rados,
    mapper: str,
) -> Scene:
    """Return a scene on two machines whose node plugins run and are registered.

    Args:
        cluster: the Ceph, which the machines reach.
        controller: of the driver.
        nodes: the one that fails, and the one that goes on.
        ioctx: of the pool that is the home location.
        admin: a connection of the cluster's own user.
        mapper: "krbd" or "nbd".
    """
    old, new = (InMachine(node) for node in nodes)
    new.vm.machine.write(_CONF, cluster.conf.read_text())
    new.vm.machine.write(_KEYRING, cluster.keyring.read_text(), mode="600")
    directories = (Path(f"/run/by-hand/{number}") for number in range(1_000_000))

    def move(image: str) -> by_hand.Move:
        return by_hand.Move(cluster, new, mapper, image, _CONF, _KEYRING, next(directories))

    pool = nodes[0].pool
    return Scene(cluster, pool, ioctx, admin, controller, old, new, mapper, move)


@contextlib.contextmanager
def at_work(mapper: str) -> Iterator[Scene]:
    """Give a scene with machines and a Ceph of its own; all ends with the body."""
    compile_driver()
    with contextlib.ExitStack() as undo:
        network = undo.enter_context(vm.network())
        cluster = undo.enter_context(LocalCluster(address=network.host))
        admin = undo.enter_context(cluster.connection())
        cluster.create_pool(_POOL)
        admin.wait_for_latest_osdmap()
        ioctx = undo.enter_context(admin.open_ioctx(_POOL))
        user = "node", cluster.create_user("node", node_caps(_POOL))
        old, new = (
            Node(undo.enter_context(vm.Machine(name, network, index)), cluster, _POOL, user)
            for index, name in enumerate(("node-old", "node-new"))
        )
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="fo-")))
        installation = undo.enter_context(installed(cluster, directory, _POOL))
        controller = installation.controller().start()
        for node in (old, new):
            node.start()
            wait_until_registered(ioctx, node.name)
        yield scene(cluster, controller, (old, new), ioctx, admin, mapper)
