"""DeleteVolumeGroupSnapshot and GetVolumeGroupSnapshot."""

import contextlib
from collections.abc import Callable, Iterable

from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.locations import Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.snapshots.delete import remove
from rbdcsi.snapshots.find import described
from rbdcsi.snapshots.group_create import Group
from rbdcsi.snapshots.group_records import GroupRecord, Groups, Member
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.telemetry import steps


class GroupCatalogue:
    """Deletes group snapshots, and returns one by its id."""

    def __init__(
        self,
        pooled: connections.Connections,
        volume_locations: Locations,
        on_deleted: Callable[[ids.LocationId], None],
    ) -> None:
        """Look after the group snapshots of every configured cluster.

        Args:
            pooled: the connections to the clusters.
            volume_locations: their locations.
            on_deleted: called with the location of each member that was deleted: a deleted volume
                may have waited for it.
        """
        self._connections = pooled
        self._locations = volume_locations
        self._on_deleted = on_deleted

    def get(
        self,
        handle: ids.GroupHandle,
        members: Iterable[str] = (),
        credentials: Credentials | None = None,
    ) -> Group:
        """Return a group snapshot.

        Args:
            handle: its id.
            members: the snapshot_ids of all members, to be compared; empty: not compared.
            credentials: the user and key of the call, None for the configured ones.

        Raises:
            NotFound: it does not exist, or one of its snapshots was removed by another program.
            InvalidRequest: it has other members.
        """
        with (
            self._connections.use(handle.cluster_id) as own,
            self._connections.use(handle.cluster_id, credentials) as connection,
        ):
            group = Groups(own.home()).of_handle(handle)
            if group is None or not group.record.taken:
                raise errors.NotFound(f"group snapshot {handle} does not exist")
            _require_members(group.record, members)
            found = []
            for member in group.record.members:
                location = self._locations.find(connection, member.volume.location)
                header = location.images.header(member.volume.image_id) if location else None
                snapshot = header.user_snapshot(member.snap_id or 0) if header else None
                if snapshot is None:
                    raise errors.NotFound(
                        f"group snapshot {handle}: its snapshot of volume {member.source} was "
                        "removed by another program; delete the group snapshot"
                    )
                name = group.record.member_name(handle.cluster_id, member)
                found.append(described(member.volume, snapshot, name))
        return Group(handle, tuple(found))

    def delete(
        self,
        handle: ids.GroupHandle,
        members: Iterable[str] = (),
        credentials: Credentials | None = None,
    ) -> None:
        """Delete a group snapshot with its members; one that does not exist is deleted already.

        The group's record goes last, so a call that was cut off is finished by a repeat. See `get`
        for the arguments.

        Raises:
            InvalidRequest: it has other members.
            Refused: clones of format 1 need a member, a volume is being rolled back to one, or a
                client has locked an image.
        """
        with (
            self._connections.use(handle.cluster_id) as own,
            self._connections.use(handle.cluster_id, credentials) as connection,
        ):
            groups = Groups(own.home())
            group = groups.of_handle(handle)
            if group is None:
                return
            _require_members(group.record, members)
            records = Snapshots(own.home(), handle.cluster_id)
            for member in group.record.members:
                self._remove(connection, member)
                name = group.record.member_name(handle.cluster_id, member)
                if stored := records.named(name):
                    records.swap(name, stored, None)
                steps.done("group.forget", snapshot=member.snapshot)
            groups.swap(group, None)
            steps.done("group.delete", group=group.record.name)
        for location_id in {member.volume.location for member in group.record.members}:
            self._on_deleted(location_id)

    def _remove(self, connection: Connection, member: Member) -> None:
        location = self._locations.find(connection, member.volume.location)
        header = location.images.header(member.volume.image_id) if location else None
        if location is None or header is None:
            return
        snapshot = (
            header.user_snapshot(member.snap_id)
            if member.snap_id
            else header.user_snapshot_named(member.snapshot)
        )
        if snapshot:
            with contextlib.suppress(errors.NotFound):  # by another call
                handle = ids.SnapshotHandle(member.volume, snapshot.snap_id)
                remove(connection, location, header, handle)
            steps.done("group.remove", snapshot=member.snapshot)


def _require_members(group: GroupRecord, snapshot_ids: Iterable[str]) -> None:
    asked = set(snapshot_ids)
    existing = {
        str(ids.SnapshotHandle(member.volume, member.snap_id or 0)) for member in group.members
    }
    if asked and asked != existing:
        raise errors.InvalidRequest(
            f"snapshot_ids does not fit group snapshot {group.name!r}: its members are "
            f"{', '.join(sorted(existing))}, requested are {', '.join(sorted(asked))}"
        )
