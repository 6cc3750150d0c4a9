"""NodeStageVolume: map, record the client, make or check the filesystem, mount.

Any step may be the last one before a crash: every step looks at the state before it acts, so the
same call again carries on.
"""

from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.attachments import rules
from rbdcsi.attachments.records import Attachment
from rbdcsi.config.credentials import Credentials
from rbdcsi.host.block import signature
from rbdcsi.host.fs import paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import capabilities, ids
from rbdcsi.staging import format
from rbdcsi.staging.device_stack import BLOCK_FILE, require_working, shows
from rbdcsi.staging.mapping import mapped
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.staging.volume import Volume, opened
from rbdcsi.telemetry import steps

_BLOCK = "raw block device"


@dataclass(frozen=True)
class StageRequest:
    """A NodeStageVolume request; `generation` is that of the attachment."""

    handle: ids.VolumeHandle
    staging_path: Path
    capability: capabilities.Capability
    generation: int


class Stager:
    """Stages volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node

    def stage(self, request: StageRequest, credentials: Credentials | None = None) -> None:
        """Make the volume ready at the staging path.

        Args:
            request: the call's.
            credentials: the call's own; None takes the configured ones.

        Raises:
            NotFound: no such volume, or no such staging path.
            Refused: the volume is not attached here with that generation, or not for that use, or
                its content is not the expected one.
            AlreadyExists: the staging path has another volume, or the volume for another use.
        """
        handle, node = request.handle, self._node
        with node.connections.use(handle.location.cluster_id, credentials) as connection:
            location = node.locations.open(connection, handle.location)
            volume = opened(connection, location, handle)
            record = volume.records.get(handle.image_id)
            attachment = rules.require(record, str(handle), node.node_id, request.generation)
            staged = self._is_staged(request, volume.fs_type(request.capability.fs_type))
            rules.require_covered(attachment, request.capability, str(handle), node.node_id)
            self._stage(volume, request, attachment, staged=staged)

    def _stage(
        self, volume: Volume, request: StageRequest, attachment: Attachment, *, staged: bool
    ) -> None:
        handle, generation, readonly = request.handle, request.generation, attachment.readonly
        with mapped(self._node, volume, handle, generation, readonly=readonly) as mapping:
            if staged:
                mapping.record_client()
            elif request.capability.block:
                mapping.record_client()
                self._bind(volume, request, mapping.device, readonly=readonly)
            else:
                # The device is read while the record is written; nothing is written to the device
                # before that.
                path = mapping.device.path
                with signature.reading(path, seconds=format.READ_SECONDS) as reading:
                    mapping.record_client()
                    content = reading.result()
                self._mount(volume, request, path, content, readonly=readonly)

    def _is_staged(self, request: StageRequest, fs_type: str) -> bool:
        """Return whether this is a repeat: the path shows this volume, for the use asked for.

        Raises:
            AlreadyExists: the path shows another volume, or this one for another use.
            Refused: the path shows the volume, whose device does not work any more.
        """
        path, asked = request.staging_path, _BLOCK if request.capability.block else fs_type
        filesystem, block = (
            self._node.mounts.mount_at(path),
            self._node.mounts.mount_at(path / BLOCK_FILE),
        )
        entry, use = filesystem or block, filesystem.fs_type if filesystem else _BLOCK
        if entry is None:
            return False
        device = self._node.devices.find(request.handle)
        if device:
            require_working(device)
        if device is None or not shows(entry, device):
            raise errors.AlreadyExists(
                f"staging path {path} has {entry.source} ({use}) mounted, which is not volume "
                f"{request.handle}; unmount it"
            )
        if use != asked:
            raise errors.AlreadyExists(
                f"volume {request.handle} is staged at {path} as {use}, not as {asked}; "
                "unstage it first"
            )
        return True

    def _bind(
        self, volume: Volume, request: StageRequest, device: MappedDevice, *, readonly: bool
    ) -> None:
        if volume.made_for_filesystem and not readonly:
            format.prepare_raw(volume.marked(request.generation), volume.fs_type(""))
        block = request.staging_path / BLOCK_FILE
        paths.create_target(block, self._node.kubelet_dir, "file")
        with self._node.staged_paths.noted(request.staging_path):
            self._node.mounts.bind(device.path, block, readonly=readonly, seconds=MOUNT_SECONDS)
        _mounted(request)

    def _mount(
        self,
        volume: Volume,
        request: StageRequest,
        device: Path,
        content: signature.Content,
        *,
        readonly: bool,
    ) -> None:
        if volume.raw_only:
            raise errors.Refused(
                f"volume {request.handle} was made for raw block use only, and may hold data "
                "without a signature, so it gets no filesystem; use it as a block device"
            )
        fs_type = volume.fs_type(request.capability.fs_type)
        format.prepare(
            volume.marked(request.generation),
            device,
            content,
            fs_type,
            volume.options.mkfs_options,
            self._node.lasting,
            readonly=readonly,
        )
        options = [*request.capability.mount_flags, *(("ro",) if readonly else ())]
        path = request.staging_path
        with self._node.staged_paths.noted(path):
            self._node.mounts.mount(device, path, fs_type, options, seconds=MOUNT_SECONDS)
        _mounted(request)


def _mounted(request: StageRequest) -> None:
    steps.done("stage.mount", volume=str(request.handle), path=str(request.staging_path))
