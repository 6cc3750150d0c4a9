"""NodeStageVolume: map and record the client, make or check the filesystem, mount, grow.

Any step may be the last one before a crash: every step looks at the state before it acts, so the
same call again carries on.
"""

import dataclasses

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.ceph import rights
from rbdcsi.ceph.connection import Connection
from rbdcsi.config.credentials import Credentials
from rbdcsi.host.block import signature
from rbdcsi.host.fs import paths
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import capabilities, filesystems, ids
from rbdcsi.nodes.registry import Nodes
from rbdcsi.staging import format
from rbdcsi.staging.device_stack import require_working, shows
from rbdcsi.staging.expand import grow_staged
from rbdcsi.staging.mapping import MappedVolume, mapped
from rbdcsi.staging.notes import BLOCK_FILE
from rbdcsi.staging.stage_call import StageCall, StageRequest
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.staging.unstage import Unstager
from rbdcsi.staging.volume import opened
from rbdcsi.telemetry import steps

_BLOCK = "raw block device"


class Stager:
    """Stages volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node
        self._with_rights: set[ids.LocationId] = set()  # of the configured user

    def stage(self, request: StageRequest, credentials: Credentials | None = None) -> None:
        """Make the volume ready at the staging path.

        Args:
            request: the call's.
            credentials: the call's own; None takes the configured ones.

        Raises:
            NotFound: no such volume, or no such staging path.
            Refused: the volume is not attached here with that generation, or not for that use, or
                its content is not the expected one; another client has it open; it is staged at
                another path; the node id is another machine's.
            AlreadyExists: the staging path has another volume, or the volume for another use.
        """
        handle, node = request.handle, self._node
        cluster_id = handle.location.cluster_id
        thaw_left(node, handle)
        with (
            node.connections.use(cluster_id) as own_connection,
            node.connections.use(cluster_id, credentials) as connection,
        ):
            call = self._call(own_connection, connection, request)
            if call.attachment.settles and not request.capability.block:
                self._settle(call)
                call = self._call(own_connection, connection, request)
            staged = self._is_staged(call)
            self._require_permitted(call)
            reads = not (staged or request.capability.block)
            with mapped(call, begin_reading=reads) as mapped_volume:
                if not staged:
                    self._show(call, mapped_volume)
                elif not request.capability.block:
                    # An earlier call may have died before it had grown the filesystem.
                    grow_staged(node, handle, mapped_volume.device, request.staging_path, None)

    def _call(
        self, own_connection: Connection, connection: Connection, request: StageRequest
    ) -> StageCall:
        """Read the facts of a call."""
        handle, node = request.handle, self._node
        location = node.locations.open(connection, handle.location)
        # The reads are under way together.
        reading_node = Nodes(own_connection.home()).begin_find(node.node_id)
        reading_record = store.Records(location.ioctx).begin_read(handle.image_id)
        volume = opened(connection, location, handle)
        stored = reading_record.result()
        rules.require(stored.record, str(handle), node.node_id, request.generation)
        node.require_registered(reading_node.result())
        device, note = node.devices.find(handle), node.devices.note(handle)
        return StageCall(node, own_connection, connection, volume, request, stored, device, note)

    def _require_permitted(self, call: StageCall) -> None:
        """Refuse a call before anything is mapped."""
        handle, capability = str(call.handle), call.request.capability
        rules.require_covered(call.attachment, capability, handle, self._node.node_id)
        _require_mount_flags(call)
        self._require_rights(call)
        self._require_one_path(call)

    def _settle(self, call: StageCall) -> None:
        """Replay the journal of a copied filesystem, before this node or another one reads it.

        A snapshot of a mounted filesystem has a journal that must be replayed, which a read-only
        device cannot do. So the first node that attaches such a volume has it alone, mounts it for
        writing once, and unmaps it. Then it is an attachment for reading like all others.
        """
        handle, path, records = call.handle, call.request.staging_path, call.volume.records
        unstager = Unstager(self._node)
        self._require_permitted(call)
        if call.device or call.note:
            unstager.unstage(handle, path)  # an earlier call was cut off
        image = call.volume.marked(call.generation)
        if image.mark and image.mark.copied:
            stored = records.read(handle.image_id)
            writing = dataclasses.replace(call, stored=stored, device=None, note=None, writes=True)
            with mapped(writing, begin_reading=True) as mapped_volume:
                self._mount(writing, mapped_volume, readonly=False)
            steps.done("settle.mount", volume=str(handle))
            unstager.unstage(handle, path)
            steps.done("settle.unstage", volume=str(handle))
        node_id, generation = self._node.node_id, call.generation
        records.change(
            handle.image_id,
            lambda record: rules.settled(record, str(handle), node_id, generation),
        )
        steps.done("settle.record", volume=str(handle))

    def _require_rights(self, call: StageCall) -> None:
        """Refuse what could not be unstaged: NodeUnstageVolume has no Secrets.

        Raises:
            Forbidden: the configured user may not change the volume's record.
        """
        location, own = call.handle.location, call.connection
        if own is call.user_connection or location in self._with_rights:
            return
        if not rights.may_change_images(own.ioctx(location.pool_id, location.namespace)):
            raise errors.Forbidden(
                f"volume {call.handle} is not staged: client.{own.user} of this node's "
                "configuration may not change records "
                f"in pool {call.volume.image.pool}, which unstaging it needs, as that call has no "
                "Secret; give it the permissions of a node there "
                "(`ceph auth caps`, docs/reference/ceph-permissions.md)"
            )
        self._with_rights.add(location)

    def _show(self, call: StageCall, mapped_volume: MappedVolume) -> None:
        """Bind the device to the staging path, or mount its filesystem there."""
        readonly = call.attachment.readonly
        if call.request.capability.block:
            self._bind(call, mapped_volume.device, readonly=readonly)
        else:
            self._mount(call, mapped_volume, readonly=readonly)

    def _is_staged(self, call: StageCall) -> bool:
        """Return whether this is a repeat: the path shows this volume, for the use asked for.

        Raises:
            AlreadyExists: the path shows another volume, or this one for another use.
            Refused: the path shows the volume, whose device does not work any more.
        """
        path, capability, handle = call.request.staging_path, call.request.capability, call.handle
        asked = _BLOCK if capability.block else call.volume.fs_type(capability.fs_type)
        mounts, device = self._node.mounts, call.device
        filesystem = mounts.mount_at(path)
        # As `shown_at` does, but here it counts which of the two it is.
        entry = filesystem or mounts.mount_at(path / BLOCK_FILE)
        use = filesystem.fs_type if filesystem else _BLOCK
        if entry is None:
            return False
        if device:
            require_working(device)
        if device is None or not shows(entry, device):
            raise errors.AlreadyExists(
                f"staging path {path} has {entry.source} ({use}) mounted, which is not volume "
                f"{handle}; unmount it"
            )
        if use != asked:
            raise errors.AlreadyExists(
                f"volume {handle} is staged at {path} as {use}, not as {asked}; unstage it first"
            )
        return True

    def _require_one_path(self, call: StageCall) -> None:
        """Refuse a second staging path: unstaging one of them would have to leave the device."""
        note, path = call.note, call.request.staging_path
        if note and note.staging_path != str(path) and note.is_staged(self._node.mounts):
            raise errors.Refused(
                f"volume {call.handle} is staged at {note.staging_path}, so it is not staged at "
                f"{path}, too; unstage it there first (two PersistentVolumes of one volume can be "
                "used on a node one at a time)"
            )

    def _bind(self, call: StageCall, device: MappedDevice, *, readonly: bool) -> None:
        request, volume = call.request, call.volume
        if volume.made_for_filesystem and not readonly:
            call.require_attached()
            format.prepare_raw(volume.marked(request.generation), volume.fs_type(""))
        block = request.staging_path / BLOCK_FILE
        paths.create_target(block, self._node.kubelet_dir, "file")
        self._node.mounts.bind(device.path, block, readonly=readonly)
        _mounted(request)

    def _mount(self, call: StageCall, mapped_volume: MappedVolume, *, readonly: bool) -> None:
        request, volume, device = call.request, call.volume, mapped_volume.device
        if volume.raw_only:
            raise errors.UnexpectedContent(
                f"volume {request.handle} was made for raw block use only, and may hold data "
                "without a signature, so it gets no filesystem; use it as a block device"
            )
        fs_type = volume.fs_type(request.capability.fs_type)
        image = volume.marked(request.generation)
        content = format.content_of(
            image, mapped_volume.image, mapped_volume.content, readonly=readonly
        )
        call.require_attached()
        format.prepare(
            image,
            device.path,
            content,
            fs_type,
            volume.options.mkfs_options,
            self._node.lasting,
            readonly=readonly,
        )
        always = filesystems.TABLE[fs_type].mount_always
        options = [*request.capability.mount_flags, *always, *(("ro",) if readonly else ())]
        path = request.staging_path
        self._node.mounts.mount(device.path, path, fs_type, options, seconds=MOUNT_SECONDS)
        if not readonly:
            format.note_mounted(image)
        _mounted(request)
        if isinstance(content, signature.Signature):
            grow_staged(self._node, request.handle, device, path, content.unused)


def _require_mount_flags(call: StageCall) -> None:
    """Refuse flags that are not allowed, before anything is mapped."""
    capability = call.request.capability
    if not capability.block:
        capabilities.require_mount_flags((capability,), call.volume.fs_type(capability.fs_type))


def _mounted(request: StageRequest) -> None:
    steps.done("stage.mount", volume=str(request.handle), path=str(request.staging_path))
