"""Reads the volumes of one location, each past its own damage."""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.attachments.store import Records
from rbdcsi.ceph import ceph_csi, mirroring, trash
from rbdcsi.ceph.flattening import Claims
from rbdcsi.ceph.locations import Location
from rbdcsi.ceph.objects import Header
from rbdcsi.model import format_mark
from rbdcsi.model.ids import VolumeHandle
from rbdcsi.operator.facts import Depth, LocationFacts, Volume
from rbdcsi.volumes import spec

_Record = VolumeRecord | errors.Failed | None


@dataclass(frozen=True)
class Candidate:
    """An image that may be a volume: its name, empty if it is not listed, and its record."""

    image_id: str
    name: str
    record: _Record


def candidates(location: LocationFacts, open_location: Location) -> list[Candidate]:
    """Return the images with a record, and those whose name has a prefix of the location's volumes.

    In a location that the driver does not know, each image is a candidate.
    """
    records, names = dict(Records(open_location.ioctx).each()), dict(open_location.images.all())
    prefixed = (
        image_id
        for image_id, name in names.items()
        if not location.prefixes or name.startswith(location.prefixes)
    )
    image_ids = dict.fromkeys([*prefixed, *records])
    return [Candidate(each, names.get(each, ""), records.get(each)) for each in image_ids]


def read(
    location: LocationFacts, open_location: Location, candidate: Candidate, depth: Depth
) -> Volume | None:
    """Return the volume's facts, None if the candidate is no volume.

    Args:
        location: the location.
        open_location: the same, open.
        candidate: the image.
        depth: how closely to look.
    """
    damage: dict[str, str] = {}
    image_id, record = candidate.image_id, candidate.record
    node_keys: list[str] = []
    if isinstance(record, errors.Failed):
        damage["record"] = str(record)
        node_keys = Records(open_location.ioctx).node_keys(image_id)
    header = _header(open_location, image_id, damage)
    name, trashed = candidate.name, False
    if not name:
        name, trashed = _trashed_name(open_location, image_id, damage)
    if not _is_volume(location, open_location, candidate, header):
        return None
    volume_spec, mark = _metadata(header, name, damage)
    watchers = frozenset[str]()
    if header and depth is not Depth.RECORDS:
        watchers = _watchers(open_location, image_id, damage)
    return Volume(
        handle=VolumeHandle(location.id, image_id),
        location=location,
        image=name,
        trashed=trashed,
        header=header,
        spec=volume_spec,
        mark=mark,
        record=record if isinstance(record, VolumeRecord) else VolumeRecord(),
        watchers=watchers,
        mirror_daemons=_mirror_daemons(open_location, image_id, depth, watchers),
        flattened=_is_flattened(open_location, image_id, depth, watchers),
        empty=_is_empty(open_location, candidate, header) if depth is Depth.ALL else None,
        damage=damage,
        node_keys=tuple(node_keys),
    )


def _is_volume(
    location: LocationFacts, open_location: Location, candidate: Candidate, header: Header | None
) -> bool:
    """Whether the image has a spec, is attached, or has the name or record of a volume.

    An image of ceph-csi may have such a name, and the record of an earlier use.
    """
    record = candidate.record
    if isinstance(record, VolumeRecord) and not (record.attachments or record.deleting):
        record = None
    if record or (header is not None and spec.KEY in header.metadata):
        return True
    may_be = bool(location.prefixes or candidate.record)
    return may_be and not ceph_csi.read(open_location.ioctx, candidate.name)


def _header(open_location: Location, image_id: str, damage: dict[str, str]) -> Header | None:
    try:
        return open_location.images.header(image_id)
    except errors.Failed as error:
        damage["header"] = str(error)
        return None


def _trashed_name(
    open_location: Location, image_id: str, damage: dict[str, str]
) -> tuple[str, bool]:
    """Return the name that an image in the trash had, and whether it is there."""
    try:
        entry = trash.begin_entry(open_location.ioctx, image_id).result()
    except errors.Failed as error:
        damage["trash"] = str(error)
        return "", True
    return (entry.name, True) if entry else ("", False)


def _metadata(
    header: Header | None, name: str, damage: dict[str, str]
) -> tuple[spec.VolumeSpec | None, format_mark.Mark | None]:
    metadata = header.metadata if header else {}
    volume_spec, mark = None, None
    try:
        volume_spec = spec.read(metadata, name)
    except errors.Failed as error:
        damage["spec"] = str(error)
    try:
        mark = format_mark.read_mark(metadata.get(format_mark.KEY), name)
    except errors.Failed as error:
        damage["mark"] = str(error)
    return volume_spec, mark


def _watchers(open_location: Location, image_id: str, damage: dict[str, str]) -> frozenset[str]:
    try:
        return open_location.images.watchers(image_id)
    except errors.NotFound:  # removed, or half made
        return frozenset()
    except (errors.Failed, errors.InvalidRequest) as error:
        damage["header"] = str(error)
        return frozenset()


def _mirror_daemons(
    open_location: Location, image_id: str, depth: Depth, watchers: frozenset[str]
) -> frozenset[str]:
    """Return the watchers that are rbd-mirror daemons, none if they are not looked for."""
    if depth is not Depth.ALL or not watchers:
        return frozenset()
    try:
        return mirroring.daemons(open_location.ioctx, image_id)
    except errors.NotFound:
        return frozenset()


def _is_flattened(
    open_location: Location, image_id: str, depth: Depth, watchers: frozenset[str]
) -> bool:
    """Return whether a controller has claimed an image that is watched, if that is looked for."""
    if depth is not Depth.ALL or not watchers:
        return False
    return Claims(open_location.ioctx).begin_get(image_id).result() is not None


def _is_empty(open_location: Location, candidate: Candidate, header: Header | None) -> bool | None:
    """Whether an image holds no data; None if it has metadata, snapshots or a record."""
    if header is None or header.metadata or header.snapshots or candidate.record:
        return None
    try:
        return not open_location.images.holds_data(candidate.image_id)
    except errors.RbdCsiError:
        return None
