"""NodeUnstageVolume: unmount, unmap, record the release.

The node's part needs no Ceph, so it is done although Ceph does not answer; the call then fails, and
its repeat records the release.
"""

from pathlib import Path

from rbdcsi import errors
from rbdcsi.host.fs import paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.staging import release
from rbdcsi.staging.device_stack import belongs_to, shows
from rbdcsi.staging.notes import BLOCK_FILE, shown_at
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.telemetry import steps


class Unstager:
    """Unstages volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node

    def unstage(self, handle: ids.VolumeHandle, staging_path: Path) -> None:
        """Unmount the volume from the staging path, unmap it, and record that it is released.

        A volume of a cluster that is not configured any more is unmapped; nothing is recorded.

        Raises:
            Busy: the volume is in use; the message names the users. Or it is frozen.
            Unavailable: it is unmapped, but Ceph does not answer.
        """
        thaw_left(self._node, handle)  # the kernel keeps what is unmounted while it is frozen
        note = self._node.devices.note(handle)
        mounts = self._node.mounts
        if note and Path(note.staging_path) != staging_path and note.is_staged(mounts):
            return  # this path was refused, as the volume is staged at the other one
        device = self._device(handle, staging_path)
        if device:
            self._require_unpublished(device, staging_path)
        self._node.mounts.unmount(staging_path, seconds=MOUNT_SECONDS)
        block = staging_path / BLOCK_FILE
        self._node.mounts.unmount(block, seconds=MOUNT_SECONDS)
        paths.remove_target(block, self._node.kubelet_dir)
        steps.done("unstage.unmount", volume=str(handle))
        self.release(handle, device)

    def release(self, handle: ids.VolumeHandle, device: MappedDevice | None) -> None:
        """Unmap the volume's device, if there is one, and record that the volume is released.

        Raises:
            Busy: the device is mounted or open.
            Unavailable: it is unmapped, but Ceph does not answer.
        """
        devices, note = self._node.devices, self._node.devices.note(handle)
        if device:
            devices.unmap(device, note.unmap_option if note else "")
            steps.done("unstage.unmap", volume=str(handle), device=str(device.path))
        elif note:
            devices.clear(handle, note.fsid)
        clients = (device.client if device else None, note.client if note else None)
        if self._node.has_cluster(handle):
            were_dead = device is not None and device.fault is not None
            release.release(self._node, handle, set(filter(None, clients)), were_dead=were_dead)
        devices.notes.remove(handle)

    def _device(self, handle: ids.VolumeHandle, staging_path: Path) -> MappedDevice | None:
        """Return the volume's device: that of its note, or the one that the path shows.

        A volume without a note was staged by an older driver, or is not mapped.
        """
        if self._node.devices.note(handle):
            return self._node.devices.find(handle)
        mounts = self._node.mounts
        entry = shown_at(mounts, staging_path)
        if entry:
            for device in self._node.devices.all():
                if shows(entry, device) and belongs_to(device, handle, None):
                    return device
        return self._node.devices.find(handle) if self._node.has_cluster(handle) else None

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
