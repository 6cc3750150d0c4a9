"""Removes the image of one deleted volume, then its records; any process may have died before.

A client that has the image open keeps its data. Ceph drops the watch of a dead client after 30 s;
but if the client's connection ended before the OSD executed the watch, the OSD has no timer for it,
and keeps it until the placement group peers again. So the watchers are logged.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import changes, flattening, locations, lost_parent, moves, snapshots, trash
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.objects import Header
from rbdcsi.model import ids, image_names
from rbdcsi.snapshots import leftovers
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.telemetry import steps
from rbdcsi.volumes import dependants
from rbdcsi.volumes.unfinished import UnfinishedDeletions

_log = structlog.get_logger()


@dataclass(frozen=True)
class Deleted:
    """The image of a deleted volume: its header, None if it is gone; its entry in the trash."""

    image_id: str
    header: Header | None
    entry: trash.Entry | None


@dataclass(frozen=True)
class Removal:
    """Removes images of one location.

    Attributes:
        location: opened by the connection that changes records.
        ioctx: the same location, opened by the connection that removes data.
        records: the cluster's snapshot records.
        unfinished: counts what could not be removed.
        stopped: returns True when the removal must end.
        wake: called with a location in which an image may not be needed any more.
        using: replaces the connection of `ioctx` later if the body shows that it is of no use.
    """

    location: locations.Location
    ioctx: Ioctx
    records: Snapshots
    unfinished: UnfinishedDeletions
    stopped: Callable[[], bool]
    wake: Callable[[ids.LocationId], None]
    using: Callable[[], contextlib.AbstractContextManager[Connection]]

    def read(self, image_ids: list[str]) -> list[Deleted]:
        """Return the images; the reads are under way together."""
        images = Images(self.ioctx)
        reading = [
            (image_id, images.begin_header(image_id), trash.begin_entry(self.ioctx, image_id))
            for image_id in image_ids
        ]
        return [Deleted(each, header.result(), entry.result()) for each, header, entry in reading]

    def remove(self, deleted: Deleted) -> bool:
        """Remove one image and its records; return False if that has to be repeated soon."""
        if self.stopped():
            return False
        try:
            with steps.timed(), self.using() as connection:
                is_gone = self._remove(connection, deleted)
            if is_gone:
                self.unfinished.remove(self.location.id, deleted.image_id)
        except errors.RbdCsiError as error:
            if not self.stopped():
                self._report(deleted.image_id, error)
            return False
        return True

    def _remove(self, connection: Connection, deleted: Deleted) -> bool:
        """Return False if the image has to stay, until something else ends."""
        image_id, entry, images = deleted.image_id, deleted.entry, Images(self.ioctx)
        if deleted.header and self._must_wait(image_id, deleted.header):
            return False
        if deleted.header and deleted.header.parent:
            self._require_openable(connection, image_id, deleted.header)
        if entry is None and images.name_of(image_id) == image_names.deleted_name(image_id):
            moves.to_trash(self.ioctx, image_id, image_names.deleted_name(image_id))
            steps.done("delete.aside", image_id=image_id)
            entry = trash.begin_entry(self.ioctx, image_id).result()
        if entry and entry.state is trash.State.MOVING:
            trash.finish_move(self.ioctx, image_id, entry.name)
            steps.done("delete.move", image_id=image_id)
        if entry and entry.state is not trash.State.RESTORING:
            self._remove_data(image_id, deleted.header)
            steps.done("delete.data", image_id=image_id)
        if images.exists(image_id):
            self._log_outside_trash(image_id)
            return False
        leftovers.forget(self.records, ids.VolumeHandle(self.location.id, image_id))
        store.Records(self.location.ioctx).change(image_id, lambda _: None)
        steps.done("delete.forget", image_id=image_id)
        if deleted.header and (parent := deleted.header.parent):
            cluster_id = self.location.id.cluster_id
            self.wake(ids.LocationId(cluster_id, parent.pool_id, parent.namespace))
        return True

    def _require_openable(self, connection: Connection, image_id: str, header: Header) -> None:
        """Refuse a clone that is being flattened, and detach it if its parent is lost."""
        flattening.require_none(self.ioctx, image_id)
        if lost_parent.is_lost(connection, header):
            lost_parent.detach(self.ioctx, image_id)
            steps.done("delete.detach", image_id=image_id)

    def _remove_data(self, image_id: str, header: Header | None) -> None:
        """Remove an image in the trash.

        With the last clone of a removed snapshot, librbd opens the parent and removes the snapshot.
        Calls for the parent wait meanwhile, so it must not take long.
        """
        images = Images(self.ioctx)
        if header is None or header.parent is None:
            images.remove_trashed(image_id, self.stopped)
            return
        with contextlib.suppress(errors.Refused):  # then the removal is refused, too, and says why
            images.empty_trashed(image_id, self.stopped)
        with changes.turn(header.parent.image_id):
            images.remove_trashed(image_id, self.stopped)

    def _must_wait(self, image_id: str, header: Header) -> bool:
        """Return whether snapshots or clones need the image, after removing those that do not."""
        changed = False
        if dependants.needs_name(header):
            volume = ids.VolumeHandle(self.location.id, image_id)
            location = dataclasses.replace(self.location, ioctx=self.ioctx)
            changed = leftovers.remove_unfinished(location, self.records, volume)
        for snap_id in dependants.left_behind(header):
            with contextlib.suppress(errors.NotFound):
                snapshots.remove(self.ioctx, image_id, snap_id, writers=frozenset())
            steps.done("delete.left_behind", image_id=image_id)
            changed = True
        current = Images(self.ioctx).header(image_id) if changed else header
        needed_by = dependants.of_header(current) if current else None
        if needed_by:
            self.unfinished.wait(self.location.id, image_id, needed_by)
        return needed_by is not None

    def _report(self, image_id: str, error: errors.RbdCsiError) -> None:
        """Log and count a deletion that does not finish, with the clients that hold the image."""
        watchers: frozenset[str] = frozenset()
        if isinstance(error, errors.Refused):
            with contextlib.suppress(errors.RbdCsiError):
                watchers = Images(self.ioctx).watchers(image_id)
        _log.warning(
            "data not removed, because a client has the image open; to be repeated"
            if watchers
            else "data not removed, to be repeated",
            cluster=self.location.id.cluster_id,
            pool=self.location.pool,
            image_id=image_id,
            deleted_since=self._count(image_id),
            open_by=sorted(watchers),
            error=str(error),
        )

    def _log_outside_trash(self, image_id: str) -> None:
        """Log and count a deletion that waits for DeleteVolume: the call is under way, or died."""
        _log.info(
            "image of a deleted volume is not in the trash yet",
            cluster=self.location.id.cluster_id,
            pool=self.location.pool,
            image_id=image_id,
            deleted_since=self._count(image_id),
        )

    def _count(self, image_id: str) -> str | None:
        """Count an image as not removed; return since when it is deleted, None if it is not."""
        begun = store.Records(self.location.ioctx).get(image_id).deleting
        if begun:
            self.unfinished.add(self.location.id, image_id, begun)
        return begun
