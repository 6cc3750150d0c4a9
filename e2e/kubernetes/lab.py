"""Ceph, a control plane and two machines as its nodes: all of it ends with the body."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e import vm
from e2e.clusters import Cluster, commands, local
from e2e.kubernetes import build, control_plane, image_disk, images
from e2e.kubernetes.addresses import Addresses
from e2e.kubernetes.client import Kubernetes
from e2e.kubernetes.nodes import CONTAINERD, Node

NODES = ("worker-0", "worker-1")
_MEMORY = 3 << 30  # bytes of a machine


@dataclass(frozen=True)
class Lab:
    """What runs: a Kubernetes, the Ceph that its nodes reach, and these nodes."""

    kubernetes: Kubernetes
    cluster: Cluster
    plane: control_plane.ControlPlane
    nodes: Sequence[Node]

    def start(self, node: Node) -> None:
        """Make a machine a node that is ready; also after it was booted again."""
        node.start(self.plane, [each for each in self.nodes if each is not node])
        self.kubernetes.wait_for("node", node.machine.name, "condition=Ready")


@contextlib.contextmanager
def running(directory: Path, driver_image: Path) -> Iterator[Lab]:
    """Start everything, without the driver, and return when the nodes are ready.

    Args:
        directory: exists; for keys, logs and disks.
        driver_image: an archive that the nodes have beside those of `images`.
    """
    archives = [images.archive(), driver_image]
    for program in ("kubelet", "kubectl"):  # what is made after a boot, machines do not see
        build.build(program)
    with contextlib.ExitStack() as undo:
        network = undo.enter_context(vm.network())
        addresses = Addresses(network.number)
        _give_host(addresses)
        machines = [
            vm.Machine(
                name,
                network,
                index,
                memory=_MEMORY,
                disks={CONTAINERD: image_disk.copied(archives, directory / f"{name}.disk")},
            )
            for index, name in enumerate(NODES)
        ]
        with ThreadPoolExecutor() as at_once:
            cluster = at_once.submit(undo.enter_context, local.LocalCluster(address=network.host))
            plane = at_once.submit(
                undo.enter_context, control_plane.running(directory / "control-plane", addresses)
            )
            list(at_once.map(undo.enter_context, machines))
        members = [Node(machine, index) for index, machine in enumerate(machines)]
        lab = Lab(plane.result().client, cluster.result(), plane.result(), members)
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(lab.start, members))
        yield lab


def _give_host(addresses: Addresses) -> None:
    """Give this host the API server's address and the way to Pods, on the machines' network."""
    found = json.loads(commands.run(["ip", "-json", "address", "show", "to", addresses.host]))
    device = next(each["ifname"] for each in found if each)
    commands.run(["ip", "address", "add", f"{addresses.api_server}/32", "dev", device])
    for index in range(len(NODES)):
        via = addresses.machine(index)
        commands.run(["ip", "route", "add", addresses.pods(index), "via", via])
