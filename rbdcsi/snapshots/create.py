"""CreateSnapshot: reserves the name, takes an RBD snapshot, and records its id.

The reservation is a record with a token of the call. The id is written by compare-and-swap, so only
the call that reserved last can finish. A call that finds a reservation replaces it, removes the
snapshot that the earlier call may have taken, and takes another: that call may have died before it
knew whether its snapshot is sound.

A volume may be deleted at the same moment. DeleteVolume marks the volume's record before it looks
for snapshots; CreateSnapshot reads the mark after it took the snapshot. So one sees the other. What
a call leaves then goes with the volume, see leftovers.py.
"""

import contextlib
import dataclasses
import secrets
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, snapshots
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids, image_names
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.runtime import deadlines
from rbdcsi.snapshots import limit
from rbdcsi.snapshots.find import Snapshot, described
from rbdcsi.snapshots.freezing import Volume, frozen
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.snapshots.source import Source
from rbdcsi.snapshots.store import Snapshots, StoredSnapshot
from rbdcsi.telemetry import steps

_TOKEN_BYTES = 4
_LARGEST_ID = (1 << 64) - 3  # of a snapshot: it bounds the length of the handle


@dataclass(frozen=True)
class SnapshotRequest:
    """The request of CreateSnapshot."""

    name: str
    source: ids.VolumeHandle
    parameters: SnapshotParameters


class SnapshotTaker:
    """Takes snapshots."""

    def __init__(self, pooled: connections.Connections, volume_locations: Locations) -> None:
        self._connections = pooled
        self._locations = volume_locations

    def take(self, request: SnapshotRequest, credentials: Credentials | None = None) -> Snapshot:
        """Take the snapshot, or return the one that the same request took before.

        Raises:
            NotFound: the volume does not exist, or is being deleted.
            InvalidRequest: the volume is in another cluster than the class says, or its id is too
                long for that of a snapshot.
            AlreadyExists: the name stands for a snapshot of another volume, or the volume has an
                RBD snapshot of that name that the driver did not take for it.
            Exhausted: the volume has as many snapshots as it may have.
            Refused: the volume is being rolled back.
            Busy: another call does the same, or the client that has the volume does not answer.
            Refused, Unavailable: the class asks for a freeze, see `freezing.frozen`.
        """
        require_possible(request.source, request.parameters)
        location_id = request.source.location
        with (
            self._connections.use(location_id.cluster_id) as own,
            self._connections.use(location_id.cluster_id, credentials) as connection,
        ):
            location = self._locations.open(connection, location_id)
            return self._take(location, own.home(), request)

    def _take(self, location: Location, home: Ioctx, request: SnapshotRequest) -> Snapshot:
        records = Snapshots(home, request.source.location.cluster_id)
        source = Source.read(location, request.source)
        # It is read after the header: what a call takes has its record before.
        stored = records.named(request.name)
        own = stored if stored and stored.record.source == str(request.source) else None
        if stored and own is None:
            self._require_gone(stored.record, request)
        if own and own.record.snap_id:
            snapshot = source.snapshot_of(own.record)
            if snapshot is None:  # it may have been taken after the header was read
                source = Source.read(location, request.source)
                snapshot = source.snapshot_of(own.record)
            if snapshot:
                require_as_consistent(request.name, request.parameters, frozen=own.record.frozen)
                return described(request.source, snapshot)
        reserved = _reserve(records, request, source, stored)
        if own and own.record.snap_id is None:
            _remove_earlier(location, source, own.record)
        with deadlines.finishing():
            still = _still(home, location, request)
            _take_snapshot(location, source, reserved.record.snapshot, still)
            return _confirm(location, records, source, reserved)

    def _require_gone(self, record: SnapshotRecord, request: SnapshotRequest) -> None:
        """Refuse a name that stands for another volume's snapshot, unless that is gone."""
        if self._may_exist(record):
            raise errors.AlreadyExists(
                f"snapshot {request.name!r} is one of volume {record.source}, requested is one of "
                f"volume {request.source}; choose another name, or delete the other one first"
            )

    def _may_exist(self, record: SnapshotRecord) -> bool:
        other = record.volume
        with self._connections.use(other.location.cluster_id) as own:
            try:
                source = Source.read(self._locations.open(own, other.location), other)
            except errors.NotFound:  # its pool
                return False
        if source.header and record.snap_id is None and not source.record.deleting:
            return True  # another call may be about to take it
        return source.snapshot_of(record) is not None


def require_possible(source: ids.VolumeHandle, parameters: SnapshotParameters) -> None:
    """Refuse a volume that can have no snapshot by this class.

    Raises:
        InvalidRequest: the class is of another cluster, or the snapshot's id would be too long.
    """
    cluster_id, asked = source.location.cluster_id, parameters.cluster_id
    if asked and asked != cluster_id:
        raise errors.InvalidRequest(
            f"parameter clusterID is {asked!r}, but volume {source} is in cluster "
            f"{cluster_id!r}; use a VolumeSnapshotClass of that cluster, or one without clusterID"
        )
    longest = str(ids.SnapshotHandle(source, _LARGEST_ID))
    if len(longest) > ids.MAX_BYTES:
        raise errors.InvalidRequest(
            f"volume {source} can have no snapshots: their ids, such as {longest}, would "
            f"be longer than CSI's {ids.MAX_BYTES} bytes; use a shorter clusterID or RADOS "
            "namespace for such volumes"
        )


def require_as_consistent(name: str, parameters: SnapshotParameters, *, frozen: bool) -> None:
    """Refuse a snapshot that is less consistent than its class asks for.

    Args:
        name: the CSI name of a snapshot that was taken.
        parameters: of the class.
        frozen: whether the filesystem was frozen while it was taken.

    Raises:
        AlreadyExists: it was not, and the class asks for that.
    """
    if parameters.freeze and not frozen:
        raise errors.AlreadyExists(
            f"snapshot {name!r} was taken without a freeze of the filesystem, requested is one "
            "with it (parameter freeze); delete it first, or choose another name"
        )


def _still(
    home: Ioctx, location: Location, request: SnapshotRequest
) -> contextlib.AbstractContextManager[None] | None:
    """Return what keeps the volume still while its snapshot is taken, if the class asks for it."""
    if not request.parameters.freeze:
        return None
    return frozen(home, [Volume(request.source, store.Records(location.ioctx))])


def _reserve(
    records: Snapshots,
    request: SnapshotRequest,
    source: Source,
    stored: StoredSnapshot | None,
) -> StoredSnapshot:
    """Write the record of a snapshot that is about to be taken, in the place of the stored one."""
    parameters = request.parameters
    limit.require_room(source.existing_header(), request.source)
    snapshot = image_names.image_name(parameters.name_prefix, request.name)
    if stored and stored.record.source == str(request.source) and stored.record.snap_id is None:
        snapshot = stored.record.snapshot
    else:
        source.require_unused(snapshot, request.name)
    record = SnapshotRecord(
        request.name,
        str(request.source),
        snapshot,
        kubernetes=parameters.kubernetes,
        token=secrets.token_hex(_TOKEN_BYTES),
        frozen=parameters.freeze,
    )
    reserved = StoredSnapshot.of(record)
    if not records.swap(request.name, stored, reserved):
        raise errors.Busy(
            f"snapshot {request.name!r} is being taken or deleted by another call; try again"
        )
    steps.done("snapshot.reserve", snapshot=snapshot)
    return reserved


def _remove_earlier(location: Location, source: Source, earlier: SnapshotRecord) -> None:
    """Remove the snapshot of an earlier reservation, which was replaced after it was seen."""
    snapshot = source.snapshot_of(earlier)
    if snapshot:
        with contextlib.suppress(errors.NotFound):
            snapshots.remove(
                location.ioctx, source.handle.image_id, snapshot.snap_id, source.record.writers()
            )
        steps.done("snapshot.remove_earlier", snapshot=snapshot.name)


def _take_snapshot(
    location: Location,
    source: Source,
    snapshot: str,
    still: contextlib.AbstractContextManager[None] | None,
) -> None:
    image_id, writers = source.handle.image_id, source.record.writers()
    try:
        snapshots.take(location.ioctx, image_id, snapshot, writers, still)
    except errors.AlreadyExists as error:
        raise errors.Busy(
            f"RBD snapshot {snapshot!r} is being taken by another call; try again"
        ) from error
    steps.done("snapshot.take", image=source.image, snapshot=snapshot)


def _confirm(
    location: Location, records: Snapshots, before: Source, reserved: StoredSnapshot
) -> Snapshot:
    """Record the snapshot's id, unless the volume or the reservation has gone."""
    source, record = Source.read(location, before.handle), reserved.record
    # The mark is read after the snapshot was taken: if a node formatted the volume at that moment,
    # a clone is taken for formatted, and is never formatted again.
    source.existing_header()
    mark = source.mark
    source.require_not_rolled_back(before)
    snapshot = source.snapshot_of(record)
    if snapshot:
        taken = dataclasses.replace(record, snap_id=snapshot.snap_id, mark=mark)
        if records.swap(record.name, reserved, StoredSnapshot.of(taken)):
            steps.done("snapshot.record", snapshot=record.snapshot)
            return described(source.handle, snapshot)
    raise errors.Busy(f"snapshot {record.name!r} is being taken by another call; try again")
