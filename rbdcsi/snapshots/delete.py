"""DeleteSnapshot: removes the RBD snapshot at once; librbd keeps its data while clones need it."""

from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments import image_rules, store
from rbdcsi.ceph import connections, lost_parent, snapshots
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.ceph.objects import Header
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.snapshots.group_records import group_of
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.telemetry import steps


class SnapshotDeleter:
    """Deletes snapshots."""

    def __init__(
        self,
        pooled: connections.Connections,
        volume_locations: Locations,
        on_deleted: Callable[[ids.LocationId], None],
    ) -> None:
        """Delete snapshots of every configured cluster.

        Args:
            pooled: the connections to the clusters.
            volume_locations: their locations.
            on_deleted: called with its location after each deletion: a deleted volume may have
                waited for it.
        """
        self._connections = pooled
        self._locations = volume_locations
        self._on_deleted = on_deleted

    def delete(self, handle: ids.SnapshotHandle, credentials: Credentials | None = None) -> None:
        """Delete the snapshot; one that does not exist is deleted already.

        The record goes last: without it, a snapshot counts as one of another program.

        Raises:
            InvalidRequest: it is a member of a group snapshot (CSI: DeleteSnapshot).
            Refused: another program took it, clones of format 1 need it, its volume is being
                rolled back to it, a client has locked the image, or no client can open it.
            Busy: a node that has the volume mapped does not answer.
        """
        volume = handle.volume
        with (
            self._connections.use(volume.location.cluster_id) as own,
            self._connections.use(volume.location.cluster_id, credentials) as connection,
        ):
            records = Snapshots(own.home(), volume.location.cluster_id)
            stored = records.of_snapshot(handle)
            location = self._locations.find(connection, volume.location)
            header = location.images.header(volume.image_id) if location else None
            snapshot = header.user_snapshot(handle.snap_id) if header else None
            if snapshot and stored is None:
                raise errors.Refused(
                    f"snapshot {handle} ({snapshot.name!r} of image {volume.image_id}) was not "
                    "taken by this driver and is not deleted; remove it with `rbd snap rm` if that "
                    "is intended"
                )
            if stored and (group := group_of(stored.record.name)):
                raise errors.InvalidRequest(
                    f"snapshot {handle} is a member of group snapshot {group} and cannot be "
                    "deleted alone; delete the group snapshot"
                )
            if location and header and snapshot:
                _remove(connection, location, header, handle)
            if stored:
                records.swap(stored.record.name, stored, None)  # or its name is in use again
                steps.done("snapshot.forget", snapshot=str(handle))
        self._on_deleted(volume.location)


def _remove(
    connection: Connection, location: Location, header: Header, handle: ids.SnapshotHandle
) -> None:
    try:
        remove(connection, location, header, handle)
    except errors.NotFound:  # by another call
        return
    except errors.Refused as error:
        raise errors.Refused(
            f"snapshot {handle} cannot be removed: it is protected, as clones of format 1 need "
            "it (`rbd children`, `rbd snap unprotect`), its volume is being rolled back to it, "
            f"or image {handle.volume.image_id} cannot be opened or is locked by a client (`rbd "
            f"status`): {error}"
        ) from error
    steps.done("snapshot.remove", snapshot=str(handle))


def remove(
    connection: Connection, location: Location, header: Header, handle: ids.SnapshotHandle
) -> None:
    """Remove a snapshot of a volume, unless the volume is being rolled back to it.

    A rollback protects it only after it has written the record, and may have died between: without
    the snapshot, its repeat could not end it.

    Args:
        connection: to the cluster.
        location: where the image is.
        header: the image's.
        handle: the snapshot.

    Raises:
        NotFound, Refused, Busy: see `snapshots.remove`.
        Refused: the volume is being rolled back to it, or no client can open the image.
    """
    volume = handle.volume
    record = store.Records(location.ioctx).get(volume.image_id)
    if record.rollback and record.rollback.snap_id == handle.snap_id:
        image_rules.require_whole(record, str(volume))
    is_last = all(each.snap_id == handle.snap_id and not each.children for each in header.snapshots)
    if record.deleting and is_last and lost_parent.is_lost(connection, header):
        lost_parent.detach(location.ioctx, volume.image_id)
    try:
        snapshots.remove(location.ioctx, volume.image_id, handle.snap_id, record.writers())
    except errors.NotFound as error:  # librbd says so, too, of an ancestor of the image
        current = location.images.header(volume.image_id)
        if current and current.user_snapshot(handle.snap_id):
            raise lost_parent.unopenable(f"snapshot {handle}") from error
        raise
