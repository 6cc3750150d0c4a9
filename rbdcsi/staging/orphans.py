"""Unmaps what a node plugin that died in NodeStage left, where no NodeUnstage comes.

The kubelet forgets a stage that was cut off if the plugin does not answer its next call
(csi_attacher.go, MountDevice). The image would stay mapped, so that it could never be detached.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.host.fs import mounts
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.staging import device_stack as devices
from rbdcsi.staging.stage import Stager

_log = structlog.get_logger()

PAUSE_SECONDS = 60.0
Hold = Callable[[ids.VolumeHandle], contextlib.AbstractContextManager[None]]


class Leftovers:
    """Finds and unmaps them; a repeated NodeStage maps such a volume again."""

    def __init__(
        self,
        stager: Stager,
        node_devices: devices.Devices,
        kubelet_dir: Path,
        pooled: connections.Connections,
        hold: Hold,
    ) -> None:
        """Take `hold` to keep calls off a volume; it raises Busy if one is under way."""
        self._stager = stager
        self._devices = node_devices
        self._mounts = mounts.Mounts(kubelet_dir)
        self._connections = pooled
        self._locations = locations.Locations(pooled)
        self._hold = hold
        self._idle: frozenset[MappedDevice] = frozenset()

    def unmap(self) -> float:
        """Unmap what was idle the last time, too: mounted nowhere, and of a volume attached here.

        Returns the seconds until the next time.
        """
        with _tolerated("what is mapped"):
            found = self._found_idle()
            for device in found & self._idle:
                with _tolerated(str(device.path)):
                    for handle in self._volumes(device):
                        self._unmap(handle, device)
            self._idle = found
        return PAUSE_SECONDS

    def _unmap(self, handle: ids.VolumeHandle, device: MappedDevice) -> None:
        with self._hold(handle):
            if device in self._found_idle():
                _log.info("unmapping a leftover", volume=str(handle), device=str(device.path))
                self._stager.let_go(handle, device)

    def _found_idle(self) -> frozenset[MappedDevice]:
        """Return what is mapped now and mounted nowhere."""
        mapped, entries = self._devices.all(), self._mounts.everywhere()
        return frozenset(
            device for device in mapped if not any(devices.belongs(e, device) for e in entries)
        )

    def _volumes(self, device: MappedDevice) -> Iterator[ids.VolumeHandle]:
        """Yield what the device is of: somebody else's image is attached to this node by nobody."""
        for cluster in self._connections.configured.clusters:
            place = ids.LocationId(cluster.cluster_id, device.pool_id, device.namespace)
            with self._connections.use(cluster.cluster_id) as connection:
                if device.fsid not in (None, connection.fsid):
                    continue
                records = store.Records(self._locations.open(connection, place).ioctx)
                held = records.get(device.image_id).attachments
            if self._stager.node_id in held:
                yield ids.VolumeHandle(place, device.image_id)


@contextlib.contextmanager
def _tolerated(what: str) -> Iterator[None]:
    try:
        yield
    except (errors.RbdCsiError, OSError) as error:
        _log.warning("not looked at for leftovers, to be repeated", what=what, error=str(error))
