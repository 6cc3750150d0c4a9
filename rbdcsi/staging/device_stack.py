"""The layers of a staged volume: the mapped device, and the mounts that show it.

This module has the one definition of "this device belongs to that volume".
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.ceph.connections import Connections
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.mappers import select
from rbdcsi.host.mappers.interface import Image, MappedDevice, Mapper, same_image
from rbdcsi.model import ids
from rbdcsi.model.node_options import FORCE, NodeOptions
from rbdcsi.staging.notes import Note, Notes

_log = structlog.get_logger()

MAP_SECONDS = 60.0
RESIZE_SECONDS = 30.0
_OTHERS = ("krbd", "nbd")  # for `tryOtherMounters`, also if `--mapper` names one; fuse is for tests


@dataclass(frozen=True)
class Devices:
    """The mapped devices of this node.

    Attributes:
        mappers: every mapper, in the order of preference.
        preferred: the mappers for a volume whose StorageClass names no mapper, by name and in the
            order of preference.
        connections: of the configured clusters.
        notes: of the volumes that this plugin mapped.
    """

    mappers: Sequence[Mapper]
    preferred: Sequence[str]
    connections: Connections
    notes: Notes

    def find(self, handle: ids.VolumeHandle) -> MappedDevice | None:
        """Return the volume's device, None if this plugin has not mapped the volume.

        An older driver wrote no notes: of a volume without a note, the first device is returned.
        Ceph is asked only if there is no note, several clusters are configured and this one was not
        reached yet.

        Raises:
            InvalidRequest: there is no note, and the cluster is not configured.
            Unavailable: the cluster is one of several and does not answer.
        """
        note = self.note(handle)
        fsid = note.fsid if note else self._fsid(handle.location.cluster_id)
        of_image = [device for device in self.all() if belongs_to(device, handle, fsid)]
        return next((each for each in of_image if note is None or note.is_about(each)), None)

    def others(self, handle: ids.VolumeHandle, fsid: str) -> list[MappedDevice]:
        """Return the devices of the volume's image that other programs mapped.

        Args:
            handle: the volume.
            fsid: of its cluster.
        """
        note = self.note(handle)
        return [
            device
            for device in self.all()
            if belongs_to(device, handle, fsid) and not (note and note.is_about(device))
        ]

    def note(self, handle: ids.VolumeHandle) -> Note | None:
        """Return the volume's note, None if it has none, or one that is damaged."""
        try:
            return self.notes.read(handle)
        except errors.Failed as error:
            _log.warning("a damaged note counts as none", volume=str(handle), error=str(error))
            return None

    def all(self) -> list[MappedDevice]:
        """Return every device that is mapped here, also those that other programs mapped."""
        return [device for mapper in self.mappers for device in mapper.list()]

    def mapper_for(self, image: Image, options: NodeOptions, *, readonly: bool) -> Mapper:
        """Return the mapper that shall map an image.

        Args:
            image: the image.
            options: of the volume; they may name a mapper.
            readonly: whether the image is only read: a reader need not know every feature.

        Raises:
            Refused: this host has none of the mappers that may be used.
        """
        return select.choose(self.mappers, self._names(options), None if readonly else image)

    def unmap(self, device: MappedDevice, option: str = "") -> None:
        """Unmap a device; an unknown option is ignored, so that no option strands a volume.

        Raises:
            Busy: the device is mounted or open.
        """
        if option not in {"", FORCE}:
            _log.warning("unmap option ignored", device=str(device.path), option=option)
        self._mapper(device).unmap(device, force=option == FORCE, seconds=MAP_SECONDS)

    def discard(self, device: MappedDevice) -> None:
        """Remove a device whose client is fenced, although it may be in use."""
        self._mapper(device).discard(device, seconds=MAP_SECONDS)

    def update_size(self, device: MappedDevice, size: int) -> None:
        """Make a device take the image's size, in bytes; see `Mapper.update_size`."""
        self._mapper(device).update_size(device, size, seconds=RESIZE_SECONDS)

    def clear(self, handle: ids.VolumeHandle, fsid: str) -> None:
        """Unmap whatever a mapper has of the volume without listing it, as its state was lost.

        Args:
            handle: the volume.
            fsid: of its cluster.

        Raises:
            Busy: its device is mounted or open.
            Failed: the mapper cannot find the device by the image's ids alone.
        """
        location = handle.location
        for mapper in self.mappers:
            device = MappedDevice(
                path=Path("an unlisted device"),
                mapper=mapper.name,
                fsid=fsid,
                pool_id=location.pool_id,
                namespace=location.namespace,
                image_id=handle.image_id,
                readonly=False,
            )
            mapper.unmap(device, seconds=MAP_SECONDS)

    def supported(self) -> tuple[str, ...]:
        """Return the names of the mappers that work on this host."""
        return tuple(m.name for m in self.mappers if m.unsupported() is None)

    def _fsid(self, cluster_id: str) -> str | None:
        """Return the cluster's own id; None for the only cluster, if it was not reached yet."""
        fsid = self.connections.fsid(cluster_id)
        if fsid is None and len(self.connections.configured.clusters) > 1:
            fsid = self.connections.get(cluster_id).fsid
        return fsid

    def _mapper(self, device: MappedDevice) -> Mapper:
        return next(m for m in self.mappers if m.name == device.mapper)

    def _names(self, options: NodeOptions) -> Sequence[str]:
        named = [options.mapper] if options.mapper else []
        if options.try_other_mappers:
            return tuple(dict.fromkeys((*named, *self.preferred, *_OTHERS)))
        return named or self.preferred


@dataclass(frozen=True)
class _VolumeImage:
    fsid: str | None
    pool_id: int
    namespace: str
    image_id: str


def belongs_to(device: MappedDevice, handle: ids.VolumeHandle, fsid: str | None) -> bool:
    """Return whether the device is the volume's image, by cluster, pool, namespace and image id.

    Args:
        device: a mapped device; its own `fsid` is None if its mapper cannot know it.
        handle: the volume.
        fsid: of the volume's cluster; None only if it is the one cluster that is configured.
    """
    location = handle.location
    image = _VolumeImage(fsid, location.pool_id, location.namespace, handle.image_id)
    return same_image(device, image)


def require_working(device: MappedDevice) -> None:
    """Raise Refused if the device does not work any more."""
    if device.fault:
        raise errors.Refused(
            f"{device.path} of image {device.image_id} does not work any more ({device.fault}); "
            "it must be unstaged and staged again"
        )


def shows(entry: mountinfo.MountEntry, device: MappedDevice) -> bool:
    """Return whether the mount shows the device: its filesystem or its bound node.

    It works also if the device does not answer any more.
    """
    if entry.source == str(device.path):
        return True
    # For a bound device node the kernel lists the node's name. Only such mounts are looked at,
    # because lstat on any other mount may hang.
    if Path(entry.root).name != device.path.name:
        return False
    status = entry.target.lstat()
    return stat.S_ISBLK(status.st_mode) and status.st_rdev == device.path.stat().st_rdev
