"""NodeUnstageVolume: unmount, unmap, record the release."""

import contextlib
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.ceph.connections import Connection
from rbdcsi.host.fs import paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.runtime import clock
from rbdcsi.staging.device_stack import BLOCK_FILE, shows
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.staging.volume import opened
from rbdcsi.telemetry import steps

_log = structlog.get_logger()


class Unstager:
    """Unstages volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node

    def unstage(self, handle: ids.VolumeHandle, staging_path: Path) -> None:
        """Unmount the volume from the staging path, unmap it, and record that it is released.

        Raises:
            Busy: the volume is in use; the message names the users.
        """
        device = self._node.devices.find(handle)
        if device:
            self._require_unpublished(device, staging_path)
        self._node.mounts.unmount(staging_path, seconds=MOUNT_SECONDS)
        block = staging_path / BLOCK_FILE
        self._node.mounts.unmount(block, seconds=MOUNT_SECONDS)
        paths.remove_target(block, self._node.kubelet_dir)
        self._node.staged_paths.remove(staging_path)
        steps.done("unstage.unmount", volume=str(handle))
        self.release(handle, device)

    def release(self, handle: ids.VolumeHandle, device: MappedDevice | None) -> None:
        """Unmap the volume's device, if there is one, and record that the volume is released.

        Raises:
            Busy: the device is mounted or open.
        """
        with self._node.connections.use(handle.location.cluster_id) as connection:
            if device:
                self._node.devices.unmap(device, self._options(connection, handle))
                steps.done("unstage.unmap", volume=str(handle), device=str(device.path))
            else:
                self._node.devices.unmap_unlisted(handle, connection.fsid)
            with contextlib.suppress(errors.NotFound):
                location = self._node.locations.open(connection, handle.location)
                store.Records(location.ioctx).change(
                    handle.image_id,
                    lambda record: rules.release(
                        record, self._node.node_id, self._node.has_no_device_of, clock.now()
                    ),
                )
                steps.done("unstage.record", volume=str(handle))

    def _require_unpublished(self, device: MappedDevice, staging_path: Path) -> None:
        """Refuse while the device is mounted elsewhere.

        After the unmapping, the kernel may give its name to another volume.
        """
        staged = self._node.mounts.mounts_below(staging_path)
        for entry in self._node.mounts.mounts_below(self._node.kubelet_dir):
            if entry not in staged and shows(entry, device):
                raise errors.Busy(
                    f"{staging_path}: {device.path} of image {device.image_id} is still mounted at "
                    f"{entry.target}; NodeUnpublishVolume must come first"
                )

    def _options(self, connection: Connection, handle: ids.VolumeHandle) -> NodeOptions:
        """Return the volume's options; the defaults if image or metadata cannot be read."""
        try:
            location = self._node.locations.open(connection, handle.location)
            return opened(connection, location, handle).options
        except errors.NotFound:
            return NodeOptions()
        except errors.Failed as error:
            _log.warning("unmapped without its options", volume=str(handle), error=str(error))
            return NodeOptions()
