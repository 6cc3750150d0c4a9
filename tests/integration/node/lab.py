"""A controller and two nodes on one pool, with Ceph's and the host's own view of what they did."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import rados

from e2e import errors, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.pool import PoolView
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import fences, records, store
from rbdcsi.ceph.connections import Connections
from rbdcsi.config import clusters_file
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.machine import this_machine
from rbdcsi.host.mappers import storage_daemon
from rbdcsi.model import format_mark
from rbdcsi.volumes import spec

MIB = 1 << 20


def node_id(node: Driver) -> str:
    """Return the id that the node was prepared with."""
    return node.flags[node.flags.index("--node-id") + 1]


@dataclass(frozen=True)
class Lab(PoolView):
    """The driver, and the pool that its volumes are in."""

    controller: Driver
    nodes: tuple[Driver, Driver]
    ioctx: rados.Ioctx
    cluster: Cluster

    def pooled(self) -> Connections:
        """Return connections of this process, as the controller's user."""
        return Connections(clusters_file.load(self.controller.config), timeout=10)

    @contextlib.contextmanager
    def volume(
        self,
        name: str,
        *,
        at: Driver | None = None,
        capability: csi_pb2.VolumeCapability | None = None,
        size: int = 64 * MIB,
        parameters: Mapping[str, str] | None = None,
        readonly: bool = False,
        source: str = "",
    ) -> Iterator[Volume]:
        """Give a new volume, attached at a node; after the body it is taken down everywhere."""
        made = volume.create(
            self.controller,
            name,
            size=size,
            capability=capability,
            parameters=parameters,
            source=source,
        )
        at = at or self.nodes[0]
        try:
            volume.attach(self.controller, made, node_id(at), readonly=readonly)
            yield made
        finally:
            for node in {id(each): each for each in (at, *self.nodes)}.values():
                take_down(node, made)
                volume.detach(self.controller, made, node_id(node))
            volume.delete(self.controller, made)

    def again_attached(self, made: Volume, at: Driver, *, readonly: bool = False) -> Volume:
        """Attach a volume at a further node; returns it as told to that node."""
        other = Volume(made.id, made.capability, made.size, made.context)
        volume.attach(self.controller, other, node_id(at), readonly=readonly)
        return other

    def write(self, made: Volume, data: bytes, offset: int = 0) -> None:
        """Write into the image, as somebody else's tool would."""
        with self.image(made) as image:
            image.write(data, offset)

    def mark(self, made: Volume) -> format_mark.Mark | None:
        """Return what the image's metadata says of its filesystem."""
        return format_mark.read_mark(self.metadata(made).get(format_mark.KEY), made.id)

    def set_metadata(self, made: Volume, key: str, value: str) -> None:
        """Change image metadata behind the driver's back."""
        with self.image(made) as image:
            image.metadata_set(key, value)

    def change_spec(self, made: Volume, **node_options: object) -> None:
        """Change what the volume's metadata says of it, as a tenant of the pool can."""
        with self.image(made) as image:
            facts = json.loads(image.metadata_get(spec.KEY))
            facts["node"].update(node_options)
            image.metadata_set(spec.KEY, json.dumps(facts))

    def remove_metadata(self, made: Volume, key: str) -> None:
        """Lose image metadata behind the driver's back."""
        with self.image(made) as image:
            image.metadata_remove(key)

    def record(self, made: Volume, at: Driver) -> records.Attachment:
        """Return the volume's attachment at a node."""
        return self.attachments(made)[node_id(at)]

    def forget_access_type(self, made: Volume) -> None:
        """Make the record one of a driver that did not note the access type."""

        def without(record: records.VolumeRecord) -> records.VolumeRecord:
            older = {
                node: dataclasses.replace(attachment, access_type=None)
                for node, attachment in record.attachments.items()
            }
            return dataclasses.replace(record, attachments=older)

        store.Records(self.ioctx).change(self.image_id(made), without)

    def make_read_only(self, made: Volume, at: Driver) -> None:
        """Make the attachment at a node one for reading, as if it was detached and attached so."""

        def changed(record: records.VolumeRecord) -> records.VolumeRecord:
            attachment = dataclasses.replace(record.attachments[node_id(at)], readonly=True)
            return record.having(node_id(at), attachment)

        store.Records(self.ioctx).change(self.image_id(made), changed)

    def change_client(
        self, made: Volume, at: Driver, address: str, *, machine_id: str = "", boot_id: str = ""
    ) -> records.Client:
        """Make the record say that this client, and no other, has the volume at the node.

        Without a machine it is the record of a driver that did not note it; without one but with a
        boot, the machine is the node's own.
        """
        machine_id = machine_id or (this_machine(at.directory).machine_id if boot_id else "")
        client = records.Client(address, machine_id, boot_id, "fuse" if machine_id else "")

        def changed(record: records.VolumeRecord) -> records.VolumeRecord:
            attachment = record.attachments[node_id(at)].having_clients((client,))
            staged = dataclasses.replace(attachment, state=records.State.STAGED)
            return record.having(node_id(at), staged)

        store.Records(self.ioctx).change(self.image_id(made), changed)
        return client

    def fences(self) -> list[fences.Fence]:
        """Return the fences, which must not be damaged."""
        found = list(fences.Fences(self.ioctx).all())
        return [fence for fence in found if isinstance(fence, fences.Fence)]

    def all_fenced_are_gone(self) -> bool:
        """Return whether nodes have reported every fenced client as gone; controllers lift some."""
        return all(fence.gone for fence in self.fences())

    def lift_fences(self) -> None:
        """Remove every fence with its entry of the blocklist."""
        while found := self.fences():  # a node or the controller may change one just now
            for fence in found:
                self.cluster.ceph("osd", "blocklist", "rm", fence.address)
                fences.Fences(self.ioctx).change(fence, None)

    def forget(self, made: Volume) -> None:
        """Remove the volume's attachments, as a controller elsewhere would."""
        store.Records(self.ioctx).change(self.image_id(made), lambda _record: None)


def take_down(node: Driver, made: Volume) -> None:
    """Unpublish and unstage whatever of the volume is at the node, which is started if need be."""
    if node.process is None or node.process.poll() is not None:
        node.start()
    for entry in reversed(mounts(node)):
        if entry.target.is_relative_to(node.kubelet / "pods") and made.target(node).name in str(
            entry.target
        ):
            unpublish_at(node, made, entry.target)
    volume.unstage(node, made)


def unpublish_at(node: Driver, made: Volume, target: Path) -> None:
    """NodeUnpublishVolume at any path."""
    node.node.NodeUnpublishVolume(
        csi_pb2.NodeUnpublishVolumeRequest(volume_id=made.id, target_path=str(target))
    )


def unstage_at(node: Driver, made: Volume, path: Path) -> None:
    """NodeUnstageVolume at any path."""
    node.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=made.id, staging_target_path=str(path))
    )


def publish_at(
    node: Driver,
    made: Volume,
    target: str | Path,
    *,
    staging: str | Path | None = None,
    readonly: bool = False,
) -> None:
    """NodePublishVolume at any path, from any staging path."""
    node.node.NodePublishVolume(
        csi_pb2.NodePublishVolumeRequest(
            volume_id=made.id,
            publish_context=made.publish_context,
            staging_target_path=str(made.staging(node) if staging is None else staging),
            target_path=str(target),
            volume_capability=made.capability,
            readonly=readonly,
        )
    )


def stage_with(
    node: Driver,
    made: Volume,
    *,
    staging: str | Path | None = None,
    capability: csi_pb2.VolumeCapability | None = None,
    context: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> None:
    """NodeStageVolume with other arguments than the volume's own."""
    node.node.NodeStageVolume(
        csi_pb2.NodeStageVolumeRequest(
            volume_id=made.id,
            publish_context=made.publish_context if context is None else context,
            staging_target_path=str(made.staging(node) if staging is None else staging),
            volume_capability=capability or made.capability,
            secrets=secrets or {},
        ),
        timeout=timeout,
    )


def mounts(node: Driver) -> list[mountinfo.MountEntry]:
    """Return the mounts below the node's directory, in the kernel's order."""
    entries = mountinfo.parse(Path("/proc/self/mountinfo").read_text())
    return [entry for entry in entries if entry.target.is_relative_to(node.directory)]


def mount_at(path: Path) -> mountinfo.MountEntry:
    """Return the topmost mount at exactly that path."""
    entries = mountinfo.parse(Path("/proc/self/mountinfo").read_text())
    return [entry for entry in entries if entry.target == path][-1]


def loop_devices(node: Driver) -> dict[Path, Path]:
    """Return the loop devices over files of the node: the device to its file."""
    found = {}
    for note in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            file = Path(note.read_text().strip())
            if file.is_relative_to(node.directory):
                found[Path("/dev") / note.parts[3]] = file
    return found


def daemons(node: Driver) -> dict[Path, int]:
    """Return the node's storage daemons: the exported file to the pid."""
    running = storage_daemon.running()
    return {file: pid for file, pid in running.items() if file.is_relative_to(node.directory)}


def start_reconciled(node: Driver) -> None:
    """Start the plugin, and wait until it has looked at its devices, which keeps calls off them."""

    def rounds() -> int:
        return node.words().count('"reconciled"')

    before = rounds()
    node.start()
    commands.wait_until(lambda: rounds() > before, f"{node.name} has looked at its devices")


def wait_until_free(node: Driver) -> None:
    """Return when nothing is left at the node; the kernel frees a loop device at its last close."""
    with contextlib.suppress(errors.DeadlineExceeded):
        commands.wait_until(lambda: not held_at(node), "nothing is left", timeout=20)
    assert held_at(node) == []


def held_at(node: Driver) -> list[str]:
    """Return in words everything that staging or publishing could leave at a node."""
    state = node.directory / "state"
    return [
        *(f"mount {entry.target}" for entry in mounts(node)),
        *(f"loop device {device} of {file}" for device, file in loop_devices(node).items()),
        *(f"daemon {pid} of {file}" for file, pid in daemons(node).items()),
        *(f"state {path}" for path in state.glob("*/*")),
        *(f"target {path}" for path in (node.kubelet / "pods").glob("*/*")),
    ]
