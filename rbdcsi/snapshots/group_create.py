"""CreateVolumeGroupSnapshot: snapshots of several volumes, all of one moment.

The record of the group is written first, then those of its members, then the snapshots are taken.
The group's record says that they are of one moment only when that is proved, and has their ids. A
call that is repeated before that removes the snapshots that it finds, and takes them again; after
that, it finishes the members' records.
"""

import contextlib
import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import connections, held_image, snapshots, snapshots_together
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import format_mark, ids, image_layout, image_names
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.snapshots.create import require_possible
from rbdcsi.snapshots.find import Snapshot, described
from rbdcsi.snapshots.group_records import GroupRecord, Groups, Member, StoredGroup
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.snapshots.source import Source
from rbdcsi.snapshots.store import Snapshots, StoredSnapshot
from rbdcsi.telemetry import steps


@dataclass(frozen=True)
class GroupRequest:
    """The request of CreateVolumeGroupSnapshot; `sources` are at least one volume."""

    name: str
    sources: Sequence[ids.VolumeHandle]
    parameters: SnapshotParameters


@dataclass(frozen=True)
class Group:
    """A group snapshot and its members."""

    handle: ids.GroupHandle
    snapshots: tuple[Snapshot, ...]


class GroupTaker:
    """Takes group snapshots."""

    def __init__(self, pooled: connections.Connections, volume_locations: Locations) -> None:
        self._connections = pooled
        self._locations = volume_locations

    def take(self, request: GroupRequest, credentials: Credentials | None = None) -> Group:
        """Take the group snapshot, or return the one that the same request took before.

        Raises:
            NotFound: a volume does not exist, or is being deleted.
            InvalidRequest: a volume is in another cluster than the class says.
            AlreadyExists: the name stands for a group snapshot of other volumes.
            Refused: the volumes are in several pools, or cannot be held still.
            Busy: a client does not hand its lock over, or another call does the same.
        """
        _require_one_pool(request)
        cluster_id = request.sources[0].location.cluster_id
        with (
            self._connections.use(cluster_id) as own,
            self._connections.use(cluster_id, credentials) as connection,
        ):
            call = _Call(self._locations, connection, own.home(), cluster_id)
            return call.take(request)


class _Call:
    """One call, with its connections."""

    def __init__(
        self,
        volume_locations: Locations,
        connection: connections.Connection,
        home: connections.Ioctx,
        cluster_id: str,
    ) -> None:
        self._locations = volume_locations
        self._connection = connection
        self._cluster_id = cluster_id
        self._groups = Groups(home)
        self._records = Snapshots(home, cluster_id)

    def take(self, request: GroupRequest) -> Group:
        names = sorted(map(str, request.sources))
        group = self._groups.named(request.name)
        if group and [member.source for member in group.record.members] != names:
            raise errors.AlreadyExists(
                f"group snapshot {request.name!r} is one of volumes "
                f"{', '.join(member.source for member in group.record.members)}; choose another "
                "name, or delete the other one first"
            )
        if group is None or not group.record.taken:
            try:
                group = self._taken(self._begun(request, names, group))
            except errors.NotFound:
                self._forget(request.name)
                raise
        return self._finished(group.record)

    def _forget(self, name: str) -> None:
        """Remove what an earlier call left of a group that cannot be taken any more."""
        group = self._groups.named(name)
        if group is None or group.record.taken:
            return
        for member in group.record.members:
            self._remove(member, self._source(member.volume))
            if stored := self._records.named(self._name(group.record, member)):
                self._records.swap(stored.record.name, stored, None)
        self._groups.swap(group, None)
        steps.done("group.forget", group=name)

    def _begun(
        self, request: GroupRequest, names: Sequence[str], before: StoredGroup | None
    ) -> StoredGroup:
        """Reserve the names of group and members."""
        for source in map(self._source, request.sources):
            _require_lockable(source)
        prefix = request.parameters.name_prefix
        members = tuple(
            Member(name, image_names.image_name(prefix, f"{request.name}.{_image_id(name)}"))
            for name in names
        )
        record = (
            before.record if before else GroupRecord(request.name, secrets.token_hex(8), members)
        )
        group = StoredGroup.of(dataclasses.replace(record, attempts=record.attempts + 1))
        if not self._groups.swap(before, group):
            raise _busy(request.name)
        steps.done("group.reserve", group=request.name)
        for member in group.record.members:
            self._reserve(group.record, member, request.parameters)
        return group

    def _reserve(self, group: GroupRecord, member: Member, parameters: SnapshotParameters) -> None:
        name = self._name(group, member)
        if self._records.named(name) is None:
            record = SnapshotRecord(
                name, member.source, member.snapshot, kubernetes=parameters.kubernetes
            )
            self._records.swap(name, None, StoredSnapshot.of(record))

    def _taken(self, group: StoredGroup) -> StoredGroup:
        """Take the snapshots of all members, and record their ids."""
        members = group.record.members
        for member in members:  # what an attempt left that was cut off
            self._remove(member, self._source(member.volume))
        with contextlib.ExitStack() as stack:
            targets = [self._target(stack, member) for member in members]
            snapshots_together.take(targets)
        steps.done("group.take", group=group.record.name)
        sources = [self._source(member.volume) for member in members]
        found = [_snapshot_of(*each) for each in zip(sources, members, strict=True)]
        deleted = next((each for each in sources if each.record.deleting), None)
        record = dataclasses.replace(
            group.record,
            taken=True,
            members=tuple(
                dataclasses.replace(member, snap_id=snapshot.snap_id if snapshot else None)
                for member, snapshot in zip(members, found, strict=True)
            ),
        )
        after = StoredGroup.of(record)
        if deleted or None in found or not self._groups.swap(group, after):
            for member, source in zip(members, sources, strict=True):
                self._remove(member, source)
            if deleted:
                deleted.existing_header()
            raise _busy(group.record.name)
        steps.done("group.record", group=record.name)
        return after

    def _finished(self, group: GroupRecord) -> Group:
        """Finish the records of the members, and return the group."""
        result = []
        for member in group.members:
            source = self._source(member.volume)
            snapshot = _snapshot_of(source, member)
            if snapshot is None:
                raise errors.NotFound(
                    f"snapshot {member.snapshot!r} of group snapshot {group.name!r} was removed by "
                    "another program; delete the group snapshot, and take a new one"
                )
            self._confirm(group, member, source, snapshot)
            result.append(described(member.volume, snapshot, self._name(group, member)))
        handle = ids.GroupHandle(self._cluster_id, group.token)
        return Group(handle, tuple(result))

    def _confirm(
        self, group: GroupRecord, member: Member, source: Source, snapshot: ImageSnapshot
    ) -> None:
        """Write the id of a member's snapshot into its record, unless it is there."""
        name = self._name(group, member)
        before = self._records.named(name)
        if before and before.record.snap_id:
            return
        # as CreateSnapshot does: the mark is read after the snapshot was taken
        mark = source.header.metadata.get(format_mark.KEY) if source.header else None
        record = before.record if before else SnapshotRecord(name, member.source, member.snapshot)
        taken = dataclasses.replace(record, snap_id=snapshot.snap_id, mark=mark, abandoned=False)
        if not self._records.swap(name, before, StoredSnapshot.of(taken)):
            raise _busy(group.name)
        steps.done("group.confirm", snapshot=member.snapshot)

    def _name(self, group: GroupRecord, member: Member) -> str:
        return group.member_name(self._cluster_id, member)

    def _location(self, volume: ids.VolumeHandle) -> Location:
        return self._locations.open(self._connection, volume.location)

    def _source(self, volume: ids.VolumeHandle) -> Source:
        return Source.read(self._location(volume), volume)

    def _target(self, stack: contextlib.ExitStack, member: Member) -> held_image.Target:
        source, location_id = self._source(member.volume), member.volume.location
        source.existing_header()
        probing = self._connection.own_ioctx(location_id.pool_id, location_id.namespace)
        return held_image.Target(
            self._location(member.volume).ioctx,
            stack.enter_context(probing),
            member.volume.image_id,
            member.snapshot,
            source.record.writers(),
        )

    def _remove(self, member: Member, source: Source) -> None:
        """Remove the snapshot of a group that is not proved to be of one moment."""
        snapshot = source.header.user_snapshot_named(member.snapshot) if source.header else None
        if snapshot:
            location = self._location(member.volume)
            with contextlib.suppress(errors.NotFound):
                snapshots.remove(location.ioctx, member.volume.image_id, snapshot.snap_id)
            steps.done("group.undo", snapshot=member.snapshot)


def _require_one_pool(request: GroupRequest) -> None:
    for source in request.sources:
        require_possible(source, request.parameters)
    pools = {(each.location.cluster_id, each.location.pool_id) for each in request.sources}
    if len(pools) > 1:
        raise errors.Refused(
            f"group snapshot {request.name!r}: its volumes are in {len(pools)} pools; while one of "
            "them did not answer, the writes of the others would wait, so a group snapshot is of "
            "one pool: take one for the volumes of each pool"
        )
    if len(set(request.sources)) < len(request.sources):
        raise errors.InvalidRequest("source_volume_ids has a volume twice; name each one once")


def _require_lockable(source: Source) -> None:
    header = source.existing_header()
    if not header.features & image_layout.BITS["exclusive-lock"]:
        raise errors.Refused(
            f"volume {source.handle}: its image has not the feature exclusive-lock, so its clients "
            "cannot be made to wait, and it can be in no group snapshot; `rbd feature enable` "
            "gives it one while the volume is attached to no node"
        )


def _snapshot_of(source: Source, member: Member) -> ImageSnapshot | None:
    if source.header is None:
        return None
    if member.snap_id is None:
        return source.header.user_snapshot_named(member.snapshot)
    return source.header.user_snapshot(member.snap_id)


def _image_id(volume_id: str) -> str:
    return ids.parse(volume_id).image_id


def _busy(name: str) -> errors.Busy:
    return errors.Busy(
        f"group snapshot {name!r} is being taken or deleted by another call; try again"
    )
