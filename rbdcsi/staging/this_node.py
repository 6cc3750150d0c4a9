"""The node that this plugin serves."""

import functools
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.attachments.records import Client
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.host.fs.mounts import Mounts
from rbdcsi.host.lasting import LastingCommands
from rbdcsi.host.machine import Machine
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.staged_paths import StagedPaths

MOUNT_SECONDS = 60.0


@dataclass(frozen=True)
class ThisNode:
    """The node: its id and machine, the directory of mounts, its devices, and Ceph.

    `state_dir` keeps what must outlive the plugin.
    """

    node_id: str
    machine: Machine
    kubelet_dir: Path
    devices: Devices
    connections: Connections
    state_dir: Path

    @functools.cached_property
    def mounts(self) -> Mounts:
        """The mounts below `kubelet_dir`."""
        return Mounts(self.kubelet_dir)

    @functools.cached_property
    def staged_paths(self) -> StagedPaths:
        """The paths at which volumes are staged."""
        return StagedPaths(self.state_dir / "staged")

    @functools.cached_property
    def lasting(self) -> LastingCommands:
        """The children of this plugin that may outlive a call."""
        return LastingCommands()

    @functools.cached_property
    def locations(self) -> Locations:
        """The locations of every configured cluster."""
        return Locations(self.connections)

    def has_no_device_of(self, client: Client) -> bool:
        """Return whether a client is gone after the volume's device was unmapped here.

        A machine maps a volume once, so every client of this machine is gone then. A client whose
        machine was not recorded is this node's, too: an older driver recorded it.
        """
        return client.machine_id in {"", self.machine.machine_id}
