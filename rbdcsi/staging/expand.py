"""NodeExpandVolume, and the growth of a filesystem that is smaller than its device at its stage.

The image has its new size in Ceph by then. A filesystem may be smaller than its device because a
snapshot was restored into a larger volume, because the volume grew while it was not staged, or
because a node died before it had grown it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.ceph import blocklist
from rbdcsi.config.credentials import Credentials
from rbdcsi.host import lasting
from rbdcsi.host.block import devices, signature
from rbdcsi.host.fs import growth, mountinfo
from rbdcsi.host.fs.filesystems import Runner
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.staging.device_stack import require_working, shows
from rbdcsi.staging.notes import shown_at
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()

_READ_SECONDS = 30.0


@dataclass(frozen=True)
class ExpandRequest:
    """A NodeExpandVolume request; sizes in bytes, 0 is no bound."""

    handle: ids.VolumeHandle
    volume_path: Path
    staging_path: Path | None
    required: int
    limit: int


class Expander:
    """Grows volumes on one node."""

    def __init__(self, node: ThisNode) -> None:
        self._node = node

    def expand(self, request: ExpandRequest, credentials: Credentials | None = None) -> int:
        """Make the volume's device, and its filesystem, as large as its image; return that size.

        Where the volume is only read, nothing is done: a node that writes grows the filesystem.

        Args:
            request: the call's.
            credentials: the call's own; None takes the configured ones.

        Raises:
            NotFound: no such volume, or it is not at these paths.
            SizeOutOfRange: the image has another size than the call asks for.
            Refused: the device does not work any more, or the filesystem cannot be grown.
            NotAttached: the volume was taken from this node.
            ChildAlive: the growth runs on; a repeat takes its result.
        """
        node, handle = self._node, request.handle
        thaw_left(node, handle)
        device = node.devices.find(handle)
        entry = self._entry(request, device)
        if device is None or entry is None:
            raise errors.NotFound(
                f"volume {handle} is not staged or published at {request.volume_path} on this node"
            )
        require_working(device)
        size = self._image_size(handle, credentials)
        _require_in_range(request, size)
        if device.readonly:
            return devices.size(device.path)
        try:
            node.devices.update_size(device, size)
            steps.done("expand.device", volume=str(handle), device=str(device.path), size=size)
            if entry.source == str(device.path) and not entry.refuses_writes:
                grow(node, handle, device, entry)
                steps.done("expand.filesystem", volume=str(handle), path=str(entry.target))
        except (errors.Failed, errors.Refused) as error:
            self._require_unfenced(handle, device, error)
            raise
        return size

    def _require_unfenced(
        self, handle: ids.VolumeHandle, device: MappedDevice, error: errors.RbdCsiError
    ) -> None:
        """Raise NotAttached, caused by the error, if the device's client is on the blocklist."""
        note = self._node.devices.note(handle)
        client = device.client or (note.client if note else None)
        with self._node.connections.use(handle.location.cluster_id) as connection:
            if client in blocklist.addresses(connection):
                raise errors.NotAttached(
                    f"volume {handle} is not grown: its client {client} is on Ceph's blocklist, "
                    "so the volume was detached from this node; the node's plugin unmaps it, and "
                    f"the node that has it next grows it; noticed by: {error}"
                ) from error

    def _entry(
        self, request: ExpandRequest, device: MappedDevice | None
    ) -> mountinfo.MountEntry | None:
        """Return the mount by which the volume is grown, None if it is not at the call's paths.

        The staging path comes first: a volume may be published read-only.
        """
        if device is None:
            return None
        entries = list(self._entries(request, device))
        note = self._node.devices.note(request.handle)
        if entries and note and note.staging_path:
            entries = [*self._shown(Path(note.staging_path), device), *entries]
        return next(iter(entries), None)

    def _entries(
        self, request: ExpandRequest, device: MappedDevice
    ) -> Iterator[mountinfo.MountEntry]:
        for path in filter(None, (request.staging_path, request.volume_path)):
            yield from self._shown(path, device)

    def _shown(self, path: Path, device: MappedDevice) -> Iterator[mountinfo.MountEntry]:
        with contextlib.suppress(errors.InvalidRequest):  # volumes are never at such a path
            entry = shown_at(self._node.mounts, path)
            if entry and shows(entry, device):
                yield entry

    def _image_size(self, handle: ids.VolumeHandle, credentials: Credentials | None) -> int:
        node = self._node
        with node.connections.use(handle.location.cluster_id, credentials) as connection:
            header = node.locations.open(connection, handle.location).images.header(handle.image_id)
        if header is None:
            raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
        return header.size


def grow_staged(
    node: ThisNode, handle: ids.VolumeHandle, device: MappedDevice, path: Path, unused: int | None
) -> None:
    """Grow the filesystem of a volume that was just staged, if it is smaller than its device.

    A failure does not keep the volume from being used: it is logged and counted, and
    NodeExpandVolume returns it.

    Args:
        node: this node.
        handle: the volume.
        device: its device.
        path: the staging path, where its filesystem is mounted.
        unused: the bytes by which the filesystem can grow; None if that is not known.

    Raises:
        ChildAlive: the growth runs on; a repeat takes its result.
    """
    if unused == 0 or device.readonly:
        return
    entry = node.mounts.mount_at(path)
    if entry is None or entry.readonly:
        return
    try:
        if unused is None:
            unused = signature.unused_bytes(device.path, entry.fs_type, seconds=_READ_SECONDS)
        if unused:
            grow(node, handle, device, entry)
            steps.done("stage.grow", volume=str(handle), path=str(entry.target), bytes=unused)
    except errors.ChildAlive:
        raise
    except errors.RbdCsiError as error:
        metrics.NOT_GROWN.inc()
        _log.warning("the filesystem keeps its size", volume=str(handle), error=str(error))


def grow(
    node: ThisNode, handle: ids.VolumeHandle, device: MappedDevice, entry: mountinfo.MountEntry
) -> None:
    """Grow the filesystem that the mount shows to the device's size.

    Args:
        node: this node.
        handle: the volume.
        device: its device.
        entry: a writable mount of its filesystem.

    Raises:
        Refused, ChildAlive: see `growth.grow`.
    """
    if entry.readonly:
        raise errors.Refused(
            f"volume {handle}: {entry.fs_type} of {device.path} is read-only, as the kernel makes "
            "it after an error, so it is not grown; `dmesg` has the error; it is repaired, and "
            "then grown, when the volume is staged next (delete the Pod)"
        )
    note, location = node.devices.note(handle), handle.location
    work = lasting.Work(
        (
            note.fsid if note else device.fsid or "",
            location.pool_id,
            location.namespace,
            handle.image_id,
        ),
        note.generation if note else 0,
        f"grow to {devices.size(device.path)}",
    )
    with node.mounts.opened(entry) as mount:
        growth.grow(device.path, entry.fs_type, mount, Runner(node.lasting, work))


def _require_in_range(request: ExpandRequest, size: int) -> None:
    if request.required < 0 or request.limit < 0:
        raise errors.InvalidRequest("capacity_range has a negative bound")
    if size < request.required or 0 < request.limit < size:
        limit = f" and at most {request.limit}" if request.limit else ""
        raise errors.SizeOutOfRange(
            f"volume {request.handle} has {size} bytes, asked for are at least {request.required}"
            f"{limit}; ControllerExpandVolume must come first"
        )
