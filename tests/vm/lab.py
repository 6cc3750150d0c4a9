"""A controller here and two nodes in machines, with Ceph's and the machines' view of them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rados
import rbd

from e2e import volume
from e2e.driver import Driver
from e2e.vm.node import Node
from e2e.volume import Volume
from rbdcsi import handles
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import records, store
from rbdcsi.host import mountinfo

MIB = 1 << 20
MAPPERS = {"krbd": "/dev/rbd", "nbd": "/dev/nbd"}  # to the beginning of their devices' names


@dataclass(frozen=True)
class Lab:
    """The driver, and the pool that its volumes are in."""

    controller: Driver
    nodes: tuple[Node, Node]
    ioctx: rados.Ioctx

    @contextlib.contextmanager
    def volume(
        self,
        mapper: str,
        *,
        size: int = 64 * MIB,
        capability: csi_pb2.VolumeCapability | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Iterator[Volume]:
        """Give a new volume, attached at the first node; after the body it is gone everywhere."""
        wanted = {"mounter": mapper, **(parameters or {})}
        name = f"{mapper}-{len(rbd.RBD().list(self.ioctx))}"
        made = volume.create(
            self.controller, name, size=size, capability=capability, parameters=wanted
        )
        try:
            volume.attach(self.controller, made, self.nodes[0].name)
            yield made
        finally:
            for node in self.nodes:
                take_down(node, made)
                volume.detach(self.controller, made, node.name)
            volume.delete(self.controller, made)

    def move(self, made: Volume, source: Node, target: Node) -> None:
        """Unstage and detach it at one node, attach it at the other."""
        take_down(source, made)
        volume.detach(self.controller, made, source.name)
        volume.attach(self.controller, made, target.name)

    def image_id(self, made: Volume) -> str:
        """Return the id of the volume's image."""
        return handles.parse(made.id).image_id

    def content(self, made: Volume, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of the image as Ceph has them, all of them without a size."""
        with rbd.Image(self.ioctx, image_id=self.image_id(made), read_only=True) as image:
            return bytes(image.read(offset, image.size() if size is None else size))

    def watchers(self, made: Volume) -> set[str]:
        """Return the clients that Ceph lists as having the image open for writing."""
        with rbd.Image(self.ioctx, image_id=self.image_id(made), read_only=True) as image:
            return {watcher["addr"] for watcher in image.watchers_list()}

    def objects(self, made: Volume) -> int:
        """Return how many objects hold the image's data."""
        prefix = f"rbd_data.{self.image_id(made)}."
        return sum(found.key.startswith(prefix) for found in self.ioctx.list_objects())

    def record(self, made: Volume, at: Node) -> records.Attachment:
        """Return the volume's attachment at a node."""
        return store.Records(self.ioctx).get(self.image_id(made)).attachments[at.name]


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
    """Return the paths where the volume is published."""
    name = made.target(node).name
    pods = node.kubelet / "pods"
    return [m.target for m in mounts(node) if m.target.is_relative_to(pods) and name in str(m)]


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
    """Return in words everything that staging or publishing could leave at a node."""
    mapped = node.run("ls /sys/bus/rbd/devices")
    served = node.run("pgrep -a rbd-nbd || true; ls -A /run/rbdcsi/nbd 2>/dev/null || true")
    published = node.run(f"find {node.kubelet}/pods -mindepth 2 2>/dev/null || true")
    found = [*mapped.split(), *served.splitlines(), *published.splitlines()]
    return [*found, *(str(entry.target) for entry in mounts(node))]


def write(node: Node, target: Path, mebibytes: int = 4) -> str:
    """Write random bytes to a file in a published volume, durably; returns their checksum."""
    file = target / "data"
    node.run(f"head -c {mebibytes}M /dev/urandom >{file}; sync {file}")
    return checksum(node, target)


def checksum(node: Node, target: Path) -> str:
    """Return the checksum of that file, read from the device past the page cache."""
    return node.run(f"dd if={target}/data iflag=direct bs=1M status=none | sha256sum")
