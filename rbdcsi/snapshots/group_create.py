"""CreateVolumeGroupSnapshot: snapshots of several volumes, all of one moment.

The record of the group is written first, then those of its members, then the snapshots are taken.
The group's record says that they are of one moment only when that is proved, and has their ids. A
call that is repeated before that removes the snapshots that it finds, and takes them again; after
that, it finishes the members' records.
"""

import contextlib
import dataclasses
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, held_image, snapshots, snapshots_together
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids, image_names
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.snapshots import group_rules
from rbdcsi.snapshots.create import require_as_consistent
from rbdcsi.snapshots.find import Snapshot, described
from rbdcsi.snapshots.freezing import Volume, frozen
from rbdcsi.snapshots.group_members import MemberRecords
from rbdcsi.snapshots.group_records import GroupRecord, Groups, Member, StoredGroup
from rbdcsi.snapshots.source import Source
from rbdcsi.telemetry import steps

_Sources: TypeAlias = Mapping[ids.VolumeHandle, Source]


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
            Refused: the volumes are in several pools, cannot be held still, or are being rolled
                back.
            Exhausted: a volume has as many snapshots as it may have.
            Busy: a client does not hand its lock over, or another call does the same.
            Unavailable: the class asks for a freeze, see `freezing.frozen`.
        """
        group_rules.require_one_pool(request.name, request.sources, request.parameters)
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
        connection: Connection,
        home: Ioctx,
        cluster_id: str,
    ) -> None:
        self._locations = volume_locations
        self._connection = connection
        self._cluster_id = cluster_id
        self._home = home
        self._groups = Groups(home)
        self._members = MemberRecords(home, cluster_id)

    def take(self, request: GroupRequest) -> Group:
        names = sorted(map(str, request.sources))
        group = self._groups.named(request.name)
        if group and [member.source for member in group.record.members] != names:
            raise errors.AlreadyExists(
                f"group snapshot {request.name!r} is one of volumes "
                f"{', '.join(member.source for member in group.record.members)}; choose another "
                "name, or delete the other one first"
            )
        if group and group.record.taken:
            require_as_consistent(request.name, request.parameters, frozen=group.record.frozen)
            return self._finished(group.record, self._sources(request.sources))
        try:
            taken = self._taken(*self._begun(request, names, group))
        except errors.NotFound:
            self._forget(request.name)
            raise
        return self._finished(*taken)

    def _forget(self, name: str) -> None:
        """Remove what an earlier call left of a group that cannot be taken any more."""
        group = self._groups.named(name)
        if group is None or group.record.taken:
            return
        for member in group.record.members:
            self._remove(member, self._source(member.volume))
            self._members.remove(group.record, member)
        self._groups.swap(group, None)
        steps.done("group.forget", group=name)

    def _begun(
        self, request: GroupRequest, names: Sequence[str], before: StoredGroup | None
    ) -> tuple[StoredGroup, _Sources]:
        """Reserve the names of group and members; return the group, and its volumes before it."""
        sources = self._sources(request.sources)
        for source in sources.values():
            group_rules.require_lockable(source)
        if before is None:
            group_rules.require_room(sources)
        prefix = request.parameters.name_prefix
        members = tuple(
            Member(name, image_names.image_name(prefix, f"{request.name}.{_image_id(name)}"))
            for name in names
        )
        if before is None:
            for member in members:
                sources[member.volume].require_unused(member.snapshot, request.name)
        record = (
            before.record if before else GroupRecord(request.name, secrets.token_hex(8), members)
        )
        attempt = record.attempts + 1
        group = StoredGroup.of(
            dataclasses.replace(record, attempts=attempt, frozen=request.parameters.freeze)
        )
        if not self._groups.swap(before, group):
            raise _busy(request.name)
        steps.done("group.reserve", group=request.name)
        for member in group.record.members:
            self._members.reserve(group.record, member, request.parameters)
        return group, self._cleared(group.record) if before else sources

    def _cleared(self, group: GroupRecord) -> _Sources:
        """Remove the snapshots of an attempt that was cut off; return the volumes after that."""
        for member in group.members:
            self._remove(member, self._source(member.volume))
        sources = self._sources(member.volume for member in group.members)
        group_rules.require_room(sources)
        return sources

    def _taken(self, group: StoredGroup, before: _Sources) -> tuple[GroupRecord, _Sources]:
        """Take the snapshots of all members, and record their ids; see `_begun`."""
        members = group.record.members
        still = self._frozen(members) if group.record.frozen else contextlib.nullcontext()
        taken: tuple[Member, ...] = ()
        try:
            with contextlib.ExitStack() as stack:
                targets = [self._target(stack, each, before[each.volume]) for each in members]
                with still:
                    snap_ids = snapshots_together.take(targets)
                    pairs = zip(members, snap_ids, strict=True)
                    taken = tuple(dataclasses.replace(each, snap_id=id_) for each, id_ in pairs)
            steps.done("group.take", group=group.record.name)
            sources = self._sources(member.volume for member in members)
            for volume, source in sources.items():
                source.existing_header()
                source.require_not_rolled_back(before[volume])
        except errors.RbdCsiError:
            with contextlib.suppress(errors.RbdCsiError):  # the repeated call removes them, too
                self._undo(taken, before)
            raise
        taken = tuple(dataclasses.replace(each, mark=sources[each.volume].mark) for each in taken)
        record = dataclasses.replace(group.record, taken=True, members=taken)
        # After an error it is not known whether Ceph has written it: the snapshots must stay.
        if not self._groups.swap(group, StoredGroup.of(record)):
            self._undo(taken, before)
            raise _busy(group.record.name)
        steps.done("group.record", group=record.name)
        return record, sources

    def _finished(self, group: GroupRecord, sources: _Sources) -> Group:
        """Finish the records of the members, whose volumes were read since; return the group."""
        result = []
        for member in group.members:
            source = sources[member.volume]
            snapshot = _snapshot_of(source, member)
            if snapshot is None:
                raise errors.NotFound(
                    f"snapshot {member.snapshot!r} of group snapshot {group.name!r} was removed by "
                    "another program; delete the group snapshot, and take a new one"
                )
            if not self._members.confirm(group, member, source, snapshot):
                raise _busy(group.name)
            result.append(described(member.volume, snapshot, self._members.name(group, member)))
        handle = ids.GroupHandle(self._cluster_id, group.token)
        return Group(handle, tuple(result))

    def _location(self, volume: ids.VolumeHandle) -> Location:
        return self._locations.open(self._connection, volume.location)

    def _source(self, volume: ids.VolumeHandle) -> Source:
        return Source.read(self._location(volume), volume)

    def _sources(self, volumes: Iterable[ids.VolumeHandle]) -> _Sources:
        return {volume: self._source(volume) for volume in volumes}

    def _undo(self, members: Iterable[Member], sources: _Sources) -> None:
        """Remove the snapshots that this call took, by their ids: another call may take others."""
        for member in members:
            if member.snap_id:
                self._remove_snapshot(member, member.snap_id, sources[member.volume])

    def _target(
        self, stack: contextlib.ExitStack, member: Member, source: Source
    ) -> held_image.Target:
        location_id = member.volume.location
        source.existing_header()
        probing = self._connection.own_ioctx(location_id.pool_id, location_id.namespace)
        return held_image.Target(
            self._location(member.volume).ioctx,
            stack.enter_context(probing),
            member.volume.image_id,
            member.snapshot,
            source.record.writers(),
        )

    def _frozen(self, members: Sequence[Member]) -> contextlib.AbstractContextManager[None]:
        """Return what keeps the volumes still while their snapshots are taken."""
        volumes = [
            Volume(member.volume, store.Records(self._location(member.volume).ioctx))
            for member in members
        ]
        return frozen(self._home, volumes)

    def _remove(self, member: Member, source: Source) -> None:
        """Remove the snapshot of a group that is not proved to be of one moment."""
        snapshot = source.header.user_snapshot_named(member.snapshot) if source.header else None
        if snapshot:
            self._remove_snapshot(member, snapshot.snap_id, source)

    def _remove_snapshot(self, member: Member, snap_id: int, source: Source) -> None:
        ioctx, image_id = self._location(member.volume).ioctx, member.volume.image_id
        with contextlib.suppress(errors.NotFound):
            snapshots.remove(ioctx, image_id, snap_id, source.record.writers())
        steps.done("group.undo", snapshot=member.snapshot)


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
