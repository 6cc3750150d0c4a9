"""A controller here and two nodes in machines, with Ceph's and the machines' view of them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import rados
import rbd

from e2e import volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.pool import PoolView
from e2e.vm.node import Node
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import records
from rbdcsi.host.fs import mountinfo

MIB = 1 << 20
MAPPERS = {"krbd": "/dev/rbd", "nbd": "/dev/nbd"}  # to the beginning of their devices' names


@dataclass(frozen=True)
class Lab(PoolView):
    """The driver with its cluster and configuration, and the pool that its volumes are in."""

    controller: Driver
    nodes: tuple[Node, Node]
    ioctx: rados.Ioctx
    cluster: Cluster
    config: Path

    @contextlib.contextmanager
    def volume(
        self,
        mapper: str,
        *,
        size: int = 64 * MIB,
        capability: csi_pb2.VolumeCapability | None = None,
        parameters: Mapping[str, str] | None = None,
        source: str = "",
    ) -> Iterator[Volume]:
        """Give a new volume, attached at the first node; after the body it is gone everywhere."""
        wanted = {"mounter": mapper, **(parameters or {})}
        name = f"{mapper}-{len(rbd.RBD().list(self.ioctx))}"
        made = volume.create(
            self.controller,
            name,
            size=size,
            capability=capability,
            parameters=wanted,
            source=source,
        )
        try:
            volume.attach(self.controller, made, self.nodes[0].name)
            yield made
        finally:
            for node in self.nodes:
                if node.name in self.attachments(made):
                    take_down(node, made)
                    self.detach(made, node)
            volume.delete(self.controller, made)

    def move(self, made: Volume, source: Node, target: Node) -> None:
        """Unstage and detach it at one node, attach it at the other."""
        take_down(source, made)
        self.detach(made, source)
        volume.attach(self.controller, made, target.name)

    def detach(self, made: Volume, node: Node) -> None:
        """Detach it, again and again while a client that died is seen, as the attacher would."""

        def detached() -> bool:
            try:
                volume.detach(self.controller, made, node.name)
            except grpc.RpcError as error:
                if "is still open by" in str(error):
                    return False
                raise
            return True

        commands.wait_until(detached, f"{made.id} is detached from {node.name}")

    def objects(self, made: Volume) -> int:
        """Return how many objects hold the image's data."""
        prefix = f"rbd_data.{self.image_id(made)}."
        return sum(found.key.startswith(prefix) for found in self.ioctx.list_objects())

    def occupied(self, made: Volume) -> int:
        """Return how many bytes of the image are not zero, in pieces of 64 KiB.

        Objects are not counted: a trimmed extent seldom covers whole ones, and parts are zeroed.
        """
        content, piece = self.content(made), 1 << 16
        pieces = (content[at : at + piece] for at in range(0, len(content), piece))
        return sum(len(found) for found in pieces if found.count(0) < len(found))

    def record(self, made: Volume, at: Node) -> records.Attachment:
        """Return the volume's attachment at a node."""
        return self.attachments(made)[at.name]


def take_down(node: Node, made: Volume) -> None:
    """Unpublish and unstage whatever of the volume is at the node, which is started if need be."""
    if not node.machine.is_running:
        node.forget()
        node.machine.start()
    if not node.channel:
        node.start()
    for target in targets(node, made):
        node.node.NodeUnpublishVolume(
            csi_pb2.NodeUnpublishVolumeRequest(volume_id=made.id, target_path=str(target))
        )
    volume.unstage(node, made)


def targets(node: Node, made: Volume) -> Sequence[Path]:
    """Return the paths where the volume is published, or was when the machine ended."""
    found = node.run(f"ls -d {node.kubelet}/pods/*/{made.target(node).name}", ok=range(256))
    return [Path(line) for line in found.splitlines()]


def mounts(node: Node) -> list[mountinfo.MountEntry]:
    """Return the mounts of volumes in the node's machine, in the kernel's order."""
    entries = mountinfo.parse(node.machine.read("/proc/self/mountinfo"))
    places = (node.kubelet / "staging", node.kubelet / "pods")
    return [entry for entry in entries if any(entry.target.is_relative_to(p) for p in places)]


def mount_at(node: Node, path: Path) -> mountinfo.MountEntry | None:
    """Return the topmost mount at exactly that path."""
    return next((entry for entry in reversed(mounts(node)) if entry.target == path), None)


def device_of(node: Node, made: Volume) -> str:
    """Return the device that the staged filesystem is on."""
    found = mount_at(node, made.staging(node))
    assert found, f"{made.id} is not staged at {node.name}"
    return found.source


def held_at(node: Node) -> list[str]:
    """Return in words everything that staging or publishing could leave at a node.

    Not a process that has ended: it holds nothing, and the machine's init looks once a second.
    """
    found = node.run(
        "ls /sys/bus/rbd/devices; pgrep -a -r R,S,D,T rbd-nbd || true;"
        "ls -A /run/rbdcsi/nbd || true;"
        f"find {node.kubelet}/pods -mindepth 2 || true"
    )
    return [*found.splitlines(), *(str(entry.target) for entry in mounts(node))]


def write(node: Node, target: Path, mebibytes: int = 4) -> str:
    """Write random bytes to a file in a published volume, durably; returns their checksum."""
    file = target / "data"
    node.run(f"head -c {mebibytes}M /dev/urandom >{file}; sync {file}")
    return checksum(node, target)


def checksum(node: Node, target: Path) -> str:
    """Return the checksum of that file, read from the device past the page cache."""
    return node.run(f"dd if={target}/data iflag=direct bs=1M status=none | sha256sum")
