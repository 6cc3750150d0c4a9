"""NodePublishVolume and NodeUnpublishVolume: bind a staged volume to the workload's path.

Ceph is not asked, so a kubelet that restarts while Ceph is away can publish again. Nothing is
published from a staging path that is not a mount of this image: after a reboot the path is a plain
directory on the host's own disk.

A volume that is attached read-write may be published read-only. Of a filesystem the kernel then
refuses every write. Of a block device the mount is read-only, too, but the kernel lets a program
write through a device's node wherever the node lies. There the container runtime stops the writes,
as Kubernetes asks it to: the device is in the container's control group with "r".
"""

from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import undo
from rbdcsi.host.fs import mountinfo, paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import capabilities, ids
from rbdcsi.staging.device_stack import require_working, shows
from rbdcsi.staging.notes import BLOCK_FILE
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.telemetry import steps


@dataclass(frozen=True)
class PublishRequest:
    """A NodePublishVolume request."""

    handle: ids.VolumeHandle
    staging_path: Path
    target_path: Path
    capability: capabilities.Capability
    readonly: bool


class Publisher:
    """Publishes and unpublishes volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node

    def publish(self, request: PublishRequest) -> None:
        """Make the volume appear at the target path; a repeat changes nothing.

        Raises:
            InvalidRequest: the target path is the staging path, or above or below it.
            Refused: the volume is not staged there, or may be published only once.
            AlreadyExists: the target path has another volume, or this one for another use.
        """
        self._require_apart(request.target_path, request.staging_path)
        device, staged = self._staged(request)
        source = request.staging_path if not request.capability.block else device.path
        entry = self._node.mounts.mount_at(request.target_path)
        if entry:
            _require_same(request, device, staged, entry)
            return
        self._require_single(request, device)
        self._bind(request, source, device)
        steps.done("publish.mount", volume=str(request.handle), path=str(request.target_path))

    def unpublish(self, target_path: Path) -> None:
        """Unmount the target path and remove it; a repeat changes nothing.

        Raises:
            InvalidRequest: a volume is staged at, above or below the target path.
            Busy: the volume is in use.
        """
        self._require_apart(target_path)
        self._node.mounts.unmount(target_path, seconds=MOUNT_SECONDS)
        steps.done("unpublish.unmount", path=str(target_path))
        paths.remove_target(target_path, self._node.kubelet_dir)

    def _require_apart(self, target: Path, staging: Path | None = None) -> None:
        """Refuse a target at, above or below this staging path, or one that a volume is staged at.

        NodeUnpublishVolume would unmount the stage, or remove a directory inside the volume.
        """
        noted = (Path(note.staging_path) for note in self._node.devices.notes.all())
        staged = [
            path
            for path in noted
            if paths.overlap(target, path) and self._node.mounts.mounts_below(path)
        ]
        if staging and paths.overlap(target, staging):
            staged = [staging]
        if staged:
            raise errors.InvalidRequest(
                f"target path {target}: must be apart from {staged[0]}, where a volume is staged"
            )

    def _staged(self, request: PublishRequest) -> tuple[MappedDevice, mountinfo.MountEntry]:
        """Return the volume's device, and the mount that shows it at the staging path."""
        device = self._node.devices.find(request.handle)
        if device is None:
            raise errors.Refused(
                f"volume {request.handle} is not mapped on this node, so nothing is published; "
                "NodeStageVolume must come first"
            )
        require_working(device)
        path = request.staging_path
        if request.capability.block:
            path = path / BLOCK_FILE
        entry = self._node.mounts.mount_at(path)
        if entry is None or not shows(entry, device):
            raise errors.Refused(
                f"staging path {path} is {entry.source if entry else 'no mount'}, not "
                f"{device.path} of volume {request.handle}, so nothing is published; "
                "NodeStageVolume must come first"
            )
        return device, entry

    def _require_single(self, request: PublishRequest, device: MappedDevice) -> None:
        """Let SINGLE_NODE_SINGLE_WRITER (ReadWriteOncePod) be published at one path only."""
        if request.capability.mode is not capabilities.AccessMode.SINGLE_NODE_SINGLE_WRITER:
            return
        staged = {each.mount_id for each in self._node.mounts.mounts_below(request.staging_path)}
        node_name = f"/{device.path.name}"
        for entry in self._node.mounts.mounts_below(self._node.kubelet_dir):
            is_shown = entry.source == str(device.path) or entry.root == node_name
            if is_shown and entry.mount_id not in staged:
                raise errors.Refused(
                    f"volume {request.handle} is published at {entry.target}, and "
                    "SINGLE_NODE_SINGLE_WRITER allows one; unpublish it there first"
                )

    def _bind(self, request: PublishRequest, source: Path, device: MappedDevice) -> None:
        kind: paths.Kind = "file" if request.capability.block else "directory"
        paths.create_target(request.target_path, self._node.kubelet_dir, kind)
        try:
            self._node.mounts.bind(
                source,
                request.target_path,
                readonly=request.readonly or device.readonly,
            )
        except errors.RbdCsiError as error:
            with undo.after(error, f"removing {request.target_path} again"):
                paths.remove_target(request.target_path, self._node.kubelet_dir)
            raise


def _require_same(
    request: PublishRequest,
    device: MappedDevice,
    staged: mountinfo.MountEntry,
    entry: mountinfo.MountEntry,
) -> None:
    require_working(device)
    if not shows(entry, device):
        raise errors.AlreadyExists(
            f"target path {request.target_path} has {entry.source} mounted, not volume "
            f"{request.handle} ({device.path}); unpublish it first"
        )
    # Only the mount's own flag counts: the kernel makes a filesystem read-only after an error. The
    # mount has taken over the flag of the one that it shows (mountOptions: ro).
    readonly = request.readonly or device.readonly
    if entry.refuses_writes not in (readonly, readonly or staged.refuses_writes):
        raise errors.AlreadyExists(
            f"target path {request.target_path} has volume {request.handle} "
            f"{'read-only' if entry.refuses_writes else 'read-write'} already; unpublish it first"
        )
