"""The node that this plugin serves."""

import functools
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from rbdcsi import errors
from rbdcsi.attachments.records import Client
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.host.fs.mounts import Mounts
from rbdcsi.host.lasting import LastingCommands
from rbdcsi.host.machine import Machine
from rbdcsi.model import ids
from rbdcsi.nodes.registry import NodeRecord
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.freeze_marks import FreezeMarks

MOUNT_SECONDS = 60.0
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class ThisNode:
    """The node: its id and machine, the directory of mounts, its devices, marks, and Ceph.

    Clients in `allowed_watchers` may have an image open that is staged here. `may_fence` is whether
    the operator allows to fence a client that is not proved gone.
    """

    node_id: str
    machine: Machine
    kubelet_dir: Path
    devices: Devices
    connections: Connections
    freeze_marks: FreezeMarks
    allowed_watchers: tuple[Network, ...] = ()
    may_fence: bool = True

    @functools.cached_property
    def mounts(self) -> Mounts:
        """The mounts below `kubelet_dir`."""
        return Mounts(self.kubelet_dir)

    @functools.cached_property
    def lasting(self) -> LastingCommands:
        """The children of this plugin that may outlive a call."""
        return LastingCommands()

    @functools.cached_property
    def locations(self) -> Locations:
        """The locations of every configured cluster."""
        return Locations(self.connections)

    def has_cluster(self, handle: ids.VolumeHandle) -> bool:
        """Return whether the volume's cluster is configured."""
        clusters = self.connections.configured.clusters
        return any(cluster.cluster_id == handle.location.cluster_id for cluster in clusters)

    def proves_gone(self, client: Client) -> bool:
        """Return whether a client of a volume is gone, given that no device of it is here.

        The kernel lists every device of krbd. A daemon may run unseen, if its state was lost.
        """
        machine = self.machine
        if client.has_ended(machine.machine_id, machine.boot_id):
            return True
        return client.machine_id == machine.machine_id and client.mapper == "krbd"

    def require_registered(self, record: NodeRecord | None) -> None:
        """Check the node's record in Ceph before a volume is staged.

        Args:
            record: with this node's id; None if there is none.

        Raises:
            Unavailable: this plugin has not registered there yet, since its machine started.
            NodeIdTaken: the id belongs to another machine.
        """
        if record is None or not record.machine_id:
            raise errors.Unavailable(
                f"node {self.node_id!r} is not registered in Ceph yet, so nothing is staged; the "
                "node plugin repeats that every few seconds, and its log has the reason"
            )
        if record.machine_id != self.machine.machine_id:
            raise errors.NodeIdTaken(
                f"node id {self.node_id!r} belongs to the machine with addresses "
                f"{', '.join(record.addresses)} (last seen {record.last_seen}), and this is "
                "another machine, so nothing is staged; give each machine a --node-id of its own"
            )
        if record.boot_id != self.machine.boot_id:
            # By this record, a controller would take a client of this boot for one that has ended.
            raise errors.Unavailable(
                f"node {self.node_id!r} is not registered in Ceph since its machine was started "
                f"(last seen {record.last_seen}), so nothing is staged yet; the node plugin "
                "repeats that every few seconds, and its log has the reason"
            )
