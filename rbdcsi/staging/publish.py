"""NodePublishVolume and NodeUnpublishVolume: bind what is staged to where the workload sees it.

Ceph is not asked, so a kubelet that restarts while Ceph is away can publish again. Nothing is
published from a staging path that is not a mount of this very image: after a reboot it is a plain
directory on the host's own disk.

A volume that is attached read-write may be published read-only. Of a filesystem the kernel then
refuses every write. Of a block device the mount is read-only, too, but the kernel writes through a
device's node wherever it lies: it is the container runtime that lets the workload only read, as
Kubernetes tells it to (the device is in the container's control group with "r").
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import undo
from rbdcsi.host.block import devices as block_devices
from rbdcsi.host.fs import filesystems, mountinfo, mounts, paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import capabilities, ids
from rbdcsi.staging import device_stack as devices
from rbdcsi.staging.stage import BLOCK_FILE, MOUNT_SECONDS
from rbdcsi.telemetry import steps

_STATS_SECONDS = 5.0


@dataclass(frozen=True)
class PublishRequest:
    """What NodePublishVolume asks for."""

    handle: ids.VolumeHandle
    staging_path: Path
    target_path: Path
    capability: capabilities.Capability
    readonly: bool


class Publisher:
    """Publishes and unpublishes volumes on one node."""

    def __init__(self, kubelet_dir: Path, node_devices: devices.Devices) -> None:
        self._base = kubelet_dir
        self._mounts = mounts.Mounts(kubelet_dir)
        self._devices = node_devices

    def publish(self, request: PublishRequest) -> None:
        """Make the volume appear at the target path; a repeat changes nothing.

        Raises:
            Refused: it is not staged there, or may be published only once.
            AlreadyExists: something else, or the same otherwise, is at the target path.
        """
        device = self._staged(request)
        source = request.staging_path if not request.capability.block else device.path
        there = self._mounts.at(request.target_path)
        if there:
            self._require_same(request, device, there)
            return
        self._require_room(request, device)
        self._bind(request, source, device)
        steps.done("publish.mount", volume=str(request.handle), path=str(request.target_path))

    def unpublish(self, target_path: Path) -> None:
        """Take the volume away from the target path and remove it; one that is gone is fine.

        Raises:
            Busy: it is still in use.
        """
        self._mounts.unmount(target_path, seconds=MOUNT_SECONDS)
        steps.done("unpublish.unmount", path=str(target_path))
        paths.remove_target(target_path, self._base)

    def usage(self, handle: ids.VolumeHandle, path: Path) -> filesystems.Usage | int:
        """Return how full the volume is that is seen at the path; of a block volume its size.

        Raises:
            NotFound: the volume is not there.
            DeadlineExceeded: it does not answer.
        """
        device = self._devices.of_volume(handle)
        there = None
        with contextlib.suppress(errors.InvalidRequest):  # volumes are never at such a path
            there = self._mounts.at(path)
        missing = errors.NotFound(f"volume {handle} is not mounted at {path}")
        if there is None or device is None:
            raise missing
        if there.source == str(device.path):
            try:
                return filesystems.usage(path, seconds=_STATS_SECONDS)
            finally:
                # unpublished meanwhile, it was the host's own disk
                if self._mounts.at(path) != there:
                    raise missing
        if not devices.shown_by(there, device):
            raise errors.NotFound(f"{path} is no mount of volume {handle} ({device.path})")
        return block_devices.size(device.path)

    def _staged(self, request: PublishRequest) -> MappedDevice:
        device = self._devices.of_volume(request.handle)
        if device is None:
            raise errors.Refused(
                f"volume {request.handle} is not mapped on this node, so nothing is published; "
                "NodeStageVolume must come first"
            )
        devices.path_of(device)
        block = request.capability.block
        at = request.staging_path / BLOCK_FILE if block else request.staging_path
        there = self._mounts.at(at)
        if there is None or not devices.shown_by(there, device):
            raise errors.Refused(
                f"staging path {at} is {there.source if there else 'no mount'}, not {device.path} "
                f"of volume {request.handle}, so nothing is published; NodeStageVolume must come "
                "first"
            )
        return device

    def _require_same(
        self, request: PublishRequest, device: MappedDevice, there: mountinfo.MountEntry
    ) -> None:
        if not devices.shown_by(there, device):
            raise errors.AlreadyExists(
                f"target path {request.target_path} has {there.source} mounted, not volume "
                f"{request.handle} ({device.path}); unpublish it first"
            )
        if there.readonly != (request.readonly or device.readonly):
            raise errors.AlreadyExists(
                f"target path {request.target_path} has volume {request.handle} "
                f"{'read-only' if there.readonly else 'read-write'} already; unpublish it first"
            )

    def _require_room(self, request: PublishRequest, device: MappedDevice) -> None:
        """Let SINGLE_NODE_SINGLE_WRITER (ReadWriteOncePod) be published at one path only."""
        if request.capability.mode is not capabilities.AccessMode.SINGLE_NODE_SINGLE_WRITER:
            return
        staged = (request.staging_path, request.staging_path / BLOCK_FILE)
        for entry in self._mounts.under(self._base):
            name = f"/{device.path.name}"
            shown = entry.source == str(device.path) or entry.root == name
            if shown and entry.target not in staged:
                raise errors.Refused(
                    f"volume {request.handle} is published at {entry.target}, and "
                    "SINGLE_NODE_SINGLE_WRITER allows one; unpublish it there first"
                )

    def _bind(self, request: PublishRequest, source: Path, device: MappedDevice) -> None:
        kind: paths.Kind = "file" if request.capability.block else "directory"
        paths.create_target(request.target_path, self._base, kind)
        try:
            self._mounts.bind(
                source,
                request.target_path,
                readonly=request.readonly or device.readonly,
                seconds=MOUNT_SECONDS,
            )
        except errors.RbdCsiError as error:
            with undo.after(error, f"removing {request.target_path} again"):
                paths.remove_target(request.target_path, self._base)
            raise
