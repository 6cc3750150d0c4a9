"""Unmaps devices that a node plugin left when it died in NodeStage, if no NodeUnstage comes.

The kubelet forgets a stage that was cut off if the plugin does not answer its next call
(csi_attacher.go, MountDevice). The image would stay mapped, so that it could never be detached.
"""

import contextlib
from collections.abc import Callable, Iterator

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.staging.device_stack import shows
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.staging.unstage import Unstager

_log = structlog.get_logger()

PAUSE_SECONDS = 60.0
Hold = Callable[[ids.VolumeHandle], contextlib.AbstractContextManager[None]]


class Orphans:
    """Devices that are mounted nowhere; a repeated NodeStage maps such a volume again."""

    def __init__(self, node: ThisNode, hold: Hold) -> None:
        """Take this node, and `hold`, which keeps calls off a volume or raises Busy."""
        self._node = node
        self._unstager = Unstager(node)
        self._hold = hold
        self._idle: frozenset[MappedDevice] = frozenset()

    def unmap(self) -> float:
        """Unmap each device that was mounted nowhere in this run and the previous one.

        Only devices of volumes that are attached to this node are unmapped.

        Returns the seconds until the next time.
        """
        with _tolerated("mapped devices"):
            idle = self._idle_devices()
            for device in idle & self._idle:
                with _tolerated(str(device.path)):
                    for handle in self._volumes(device):
                        self._unmap(handle, device)
            self._idle = idle
        return PAUSE_SECONDS

    def _unmap(self, handle: ids.VolumeHandle, device: MappedDevice) -> None:
        with self._hold(handle):
            if device in self._idle_devices():
                _log.info("unmapping an orphan", volume=str(handle), device=str(device.path))
                self._unstager.release(handle, device)

    def _idle_devices(self) -> frozenset[MappedDevice]:
        """Return the devices that are mapped now and mounted nowhere."""
        mapped, entries = self._node.devices.all(), self._node.mounts.all_mounts()
        return frozenset(
            device for device in mapped if not any(shows(entry, device) for entry in entries)
        )

    def _volumes(self, device: MappedDevice) -> Iterator[ids.VolumeHandle]:
        """Yield the volume of a device, if it is attached to this node.

        An image that another program mapped is no volume, or is not attached to this node.
        """
        for cluster in self._node.connections.configured.clusters:
            location_id = ids.LocationId(cluster.cluster_id, device.pool_id, device.namespace)
            with self._node.connections.use(cluster.cluster_id) as connection:
                if device.fsid not in (None, connection.fsid):
                    continue
                location = self._node.locations.open(connection, location_id)
                attachments = store.Records(location.ioctx).get(device.image_id).attachments
            if self._node.node_id in attachments:
                yield ids.VolumeHandle(location_id, device.image_id)


@contextlib.contextmanager
def _tolerated(looked_at: str) -> Iterator[None]:
    try:
        yield
    except (errors.RbdCsiError, OSError) as error:
        _log.warning(
            "orphans not looked for, to be repeated", looked_at=looked_at, error=str(error)
        )
