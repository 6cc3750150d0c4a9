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

_log = structlog.get_logger()

MAP_SECONDS = 60.0
BLOCK_FILE = "device"  # in the staging directory of a raw block volume


@dataclass(frozen=True)
class Devices:
    """The mapped devices of this node.

    Attributes:
        mappers: every mapper, in the order of preference.
        preferred: the mappers for a volume whose StorageClass names no mapper, by name and in the
            order of preference.
        connections: of the configured clusters.
    """

    mappers: Sequence[Mapper]
    preferred: Sequence[str]
    connections: Connections

    def find(self, handle: ids.VolumeHandle) -> MappedDevice | None:
        """Return the volume's device, None if the volume is not mapped here.

        Ceph is asked only if several clusters are configured and this one was not reached yet.

        Raises:
            Unavailable: the cluster is one of several and does not answer.
        """
        cluster_id = handle.location.cluster_id
        fsid = self.connections.fsid(cluster_id)
        if fsid is None and len(self.connections.configured.clusters) > 1:
            fsid = self.connections.get(cluster_id).fsid
        return next((device for device in self.all() if belongs_to(device, handle, fsid)), None)

    def all(self) -> list[MappedDevice]:
        """Return every device that is mapped here, also those that other programs mapped."""
        return [device for mapper in self.mappers for device in mapper.list()]

    def mapper_for(
        self, image: Image, options: NodeOptions, device: MappedDevice | None, *, readonly: bool
    ) -> Mapper:
        """Return the mapper of a device, or the one that shall map an image.

        Args:
            image: the image.
            options: of the volume; they may name a mapper.
            device: the image's device if it is mapped already.
            readonly: whether the image is only read: a reader need not know every feature.

        Raises:
            Refused: this host has none of the mappers that may be used.
        """
        if device:
            return self._mapper(device)
        return select.choose(self.mappers, self._names(options), None if readonly else image)

    def unmap(self, device: MappedDevice, options: NodeOptions) -> None:
        """Unmap a device; an unknown option is ignored, so that no option strands a volume.

        Raises:
            Busy: the device is mounted or open.
        """
        option = options.unmap_options.get(device.mapper, "")
        if option not in {"", FORCE}:
            _log.warning("unmap option ignored", device=str(device.path), option=option)
        self._mapper(device).unmap(device, force=option == FORCE, seconds=MAP_SECONDS)

    def unmap_unlisted(self, handle: ids.VolumeHandle, fsid: str) -> None:
        """Unmap a volume that no mapper lists, as one whose mapper's state is damaged.

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

    def _mapper(self, device: MappedDevice) -> Mapper:
        return next(m for m in self.mappers if m.name == device.mapper)

    def _names(self, options: NodeOptions) -> Sequence[str]:
        if options.mapper is None:
            return self.preferred
        if not options.try_other_mappers:
            return (options.mapper,)
        return tuple(dict.fromkeys((options.mapper, *self.preferred)))


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
