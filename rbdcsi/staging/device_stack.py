"""The device of an image on this node: mapping it, finding it again, knowing its Ceph client."""

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.mappers import select
from rbdcsi.host.mappers.interface import Image, MappedDevice, Mapper
from rbdcsi.model import ids
from rbdcsi.model.node_options import FORCE, NodeOptions

_log = structlog.get_logger()

MAP_SECONDS = 60.0


@dataclass(frozen=True)
class Devices:
    """The mappers of this node, in the order of preference, and which of them it prefers."""

    mappers: Sequence[Mapper]
    preferred: Sequence[str]

    def of_volume(self, handle: ids.VolumeHandle) -> MappedDevice | None:
        """Return the device of a volume, by the image's ids; Ceph is not asked."""
        place = handle.location
        wanted = (place.pool_id, place.namespace, handle.image_id)
        for device in self.all():
            if (device.pool_id, device.namespace, device.image_id) == wanted:
                return device
        return None

    def mapper_for(
        self, image: Image, options: NodeOptions, there: MappedDevice | None, *, readonly: bool
    ) -> Mapper:
        """Return the mapper that has the image `there` already, or else the one wanted.

        Raises:
            Refused: this host has none of the mappers that may be used.
        """
        written = None if readonly else image  # a reader need not know every feature
        if there:
            return self._mapper(there)
        return select.choose(self.mappers, self._names(options), written)

    def unmap(self, device: MappedDevice, options: NodeOptions) -> None:
        """Unmap; Busy while it is mounted or open. An option that is not known is ignored."""
        chosen = options.unmap_options.get(device.mapper, "")
        if chosen not in {"", FORCE}:
            _log.warning("unmap option ignored", device=str(device.path), option=chosen)
        self._mapper(device).unmap(device, force=chosen == FORCE, seconds=MAP_SECONDS)

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

    def all(self) -> list[MappedDevice]:
        """Return what is mapped here, by whomever."""
        return [device for mapper in self.mappers for device in mapper.list()]


def client_of(
    device: MappedDevice,
    node_id: str,
    record: VolumeRecord,
    watching: Callable[[], frozenset[str]],
    before: frozenset[str] | None,
) -> str | None:
    """Return the Ceph client that holds the device, `ip:port/nonce`; None if it needs no fencing.

    The kernel tells its own. For a daemon it is a watcher of the image (librbd watches what it has
    open for writing): the one that was not there before, or, for a device that was adopted, the
    one in this node's attachment, or else the one that no attachment accounts for. A read-only
    device may have none: rbd-nbd then does not watch, qemu-storage-daemon does.

    Args:
        device: as the mapper gave it.
        node_id: this node.
        record: the volume's attachments; this node's is among them.
        watching: gives the image's watchers, now that it is mapped.
        before: of the image before it was mapped; None if the device was there already.

    Raises:
        Busy: it cannot be told which of several watchers it is; nothing is guessed.
    """
    if device.client:
        return device.client
    watchers = watching()
    others = {a.client for node, a in record.attachments.items() if node != node_id}
    mine = record.attachments[node_id].client
    if before is None:
        candidates = watchers & {mine} or watchers - others
    else:
        candidates = watchers - before - others
    if device.readonly and not candidates:
        return None
    if len(candidates) != 1:
        raise errors.Busy(
            f"volume of image {device.image_id}: of the clients that have it open "
            f"({', '.join(sorted(watchers)) or 'none'}) it cannot be told which is that of "
            f"{device.path}; try again when the others are gone"
        )
    (client,) = candidates
    return client


def path_of(device: MappedDevice) -> Path:
    """Return the device's path; Refused if it does not work any more."""
    if device.fault:
        raise errors.Refused(
            f"{device.path} of image {device.image_id} does not work any more ({device.fault}); "
            "it must be unstaged and staged again"
        )
    return device.path


def shown_by(entry: mountinfo.MountEntry, device: MappedDevice) -> bool:
    """Tell whether a mount is the device's filesystem, or its node; Refused as `path_of`."""
    path_of(device)
    return belongs(entry, device)


def belongs(entry: mountinfo.MountEntry, device: MappedDevice) -> bool:
    """Tell whether a mount is of the device, which may have ended."""
    if entry.source == str(device.path):
        return True
    # of a bound node the kernel tells the name; only those are looked at, for others may hang
    if Path(entry.root).name != device.path.name:
        return False
    found = entry.target.lstat()
    return stat.S_ISBLK(found.st_mode) and found.st_rdev == device.path.stat().st_rdev
