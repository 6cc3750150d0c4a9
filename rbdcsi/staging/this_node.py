"""The node that this plugin serves."""

import functools
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.host.fs.mounts import Mounts
from rbdcsi.staging.device_stack import Devices

MOUNT_SECONDS = 60.0


@dataclass(frozen=True)
class ThisNode:
    """The node: its id, the directory below which volumes are mounted, its devices, and Ceph."""

    node_id: str
    kubelet_dir: Path
    devices: Devices
    connections: Connections

    @functools.cached_property
    def mounts(self) -> Mounts:
        """The mounts below `kubelet_dir`."""
        return Mounts(self.kubelet_dir)

    @functools.cached_property
    def locations(self) -> Locations:
        """The locations of every configured cluster."""
        return Locations(self.connections)
