"""Removes the data of deleted volumes, in the background of a controller.

The volumes' records say which images are left, so any controller carries on after any crash. Two
processes must not remove one image at the same time: librbd then ends its process by an assertion
(TrimRequest: the exclusive lock was lost). So a lease lets one controller purge a location.

A client that has a deleted image open keeps its data. Ceph drops the watch of a dead client after
30 s; but if the client's connection ended before the OSD executed the watch, the OSD has no timer
for it, and keeps it until the placement group peers again. So the watchers are logged.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, lease, locations, trash
from rbdcsi.ceph.images import Images
from rbdcsi.model import ids
from rbdcsi.telemetry import steps
from rbdcsi.volumes.unfinished import UnfinishedDeletions

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_RETRY_SECONDS = 5.0  # if an image is left
_RENEW_SECONDS = lease.SECONDS / 3
_SETTLE_SECONDS = 1.0  # after a deletion's purge: others that come with it are purged together
_MOVE_SECONDS = 300.0  # much longer than a call that moves an image to the trash can take
_STOP_SECONDS = 5.0  # a removal that is cut off is finished after the next start
_REMOVALS = 2  # images whose data is removed at the same time


class Purger:
    """Removes deleted images, in a thread of its own."""

    def __init__(
        self,
        pooled: connections.Connections,
        removal_connections: connections.Connections,
        *,
        move_seconds: float = _MOVE_SECONDS,
    ) -> None:
        """Purge every location of every configured cluster.

        librbd processes a large object map in the connection's only completion thread, so
        CreateVolume on the same connection would wait for that.

        Args:
            pooled: the connections that list locations and change records.
            removal_connections: the connections that remove data; nothing else uses them.
            move_seconds: a move to the trash that is seen for so long was cut off.
        """
        self._locations = locations.Locations(pooled)
        self._removal_connections = removal_connections
        self._move_seconds = move_seconds
        self._unfinished = UnfinishedDeletions(
            cluster.cluster_id for cluster in pooled.configured.clusters
        )
        self._first_seen: dict[tuple[ids.LocationId, str], float] = {}  # moves, monotonic
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._purge_until_stopped, name="purger", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, also in the middle of an image; the next start carries on."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def wake(self) -> None:
        """Purge soon, because a volume was deleted."""
        self._wake.set()

    def _purge_until_stopped(self) -> None:
        woken = False
        while not self._stopping.is_set():
            done = False
            try:
                done = self._purge_all()
            except Exception as error:  # noqa: BLE001  the thread must go on
                _log.warning("purge failed, to be repeated", exc_info=error)
            if woken:
                self._stopping.wait(_SETTLE_SECONDS)
            woken = self._wake.wait(_PAUSE_SECONDS if done else _RETRY_SECONDS)
            self._wake.clear()

    def _purge_all(self) -> bool:
        """Purge every location; return False if an image is left."""
        done, location_ids = True, set()
        for location in self._locations.all():
            location_ids.add(location.id)
            try:
                done &= self._purge(location)
            except Exception as error:  # noqa: BLE001  the other locations must not wait for it
                done = False
                _log.warning(
                    "purge of a pool failed, to be repeated", pool=location.pool, exc_info=error
                )
        self._unfinished.keep_locations(location_ids)
        return done

    def _purge(self, location: locations.Location) -> bool:
        deleting = store.Records(location.ioctx).deleting()
        self._unfinished.keep(location.id, deleting)
        if not deleting:
            return True
        location_lease = lease.Lease(location.ioctx, locations.MARKER, "rbdcsi.sweeper")
        if not location_lease.take():
            return False
        try:
            return self._remove_all(location, location_lease)
        finally:
            location_lease.release()

    def _remove_all(self, location: locations.Location, location_lease: lease.Lease) -> bool:
        location_id, records = location.id, store.Records(location.ioctx)
        with self._removal_connections.use(location_id.cluster_id) as connection:
            ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
            reading = {each: trash.begin_entry(ioctx, each) for each in records.deleting()}
            entries = {image_id: entry.result() for image_id, entry in reading.items()}
        moving_now = self._moving_now(location_id, entries)
        lost = threading.Event()

        def stopped() -> bool:
            return self._stopping.is_set() or lost.is_set()

        with futures.ThreadPoolExecutor(_REMOVALS, "removal") as executor:
            removals = [
                executor.submit(self._remove, location, ioctx, image_id, entry, stopped)
                for image_id, entry in entries.items()
                if image_id not in moving_now
            ]
            while futures.wait(removals, _RENEW_SECONDS).not_done:
                if not lost.is_set() and not _renewed(location_lease):
                    lost.set()
        return all(removal.result() for removal in removals) and not moving_now

    def _moving_now(
        self, location_id: ids.LocationId, entries: Mapping[str, trash.Entry | None]
    ) -> set[str]:
        """Return the ids of the images that a call may be moving to the trash now.

        A move counts as cut off by the time since this process saw it first, on its own clock.
        """
        now = time.monotonic()
        moves = {
            (location_id, image_id)
            for image_id, entry in entries.items()
            if entry and entry.state is trash.State.MOVING
        }
        others = {key: seen for key, seen in self._first_seen.items() if key[0] != location_id}
        self._first_seen = others | {key: self._first_seen.get(key, now) for key in moves}
        return {key[1] for key in moves if now - self._first_seen[key] < self._move_seconds}

    def _remove(
        self,
        location: locations.Location,
        ioctx: connections.Ioctx,
        image_id: str,
        entry: trash.Entry | None,
        stopped: Callable[[], bool],
    ) -> bool:
        """Remove one image and its record; return False if it has to be repeated."""
        if stopped():
            return False
        images, records = Images(ioctx), store.Records(location.ioctx)
        try:
            # `use` replaces the connection if the user has no right to remove the image
            with steps.timed(), self._removal_connections.use(location.id.cluster_id):
                if entry and entry.state is trash.State.MOVING:
                    trash.finish_move(ioctx, image_id, entry.name)
                    steps.done("delete.move", image_id=image_id)
                if entry and entry.state is not trash.State.RESTORING:
                    images.remove_trashed(image_id, stopped)
                    steps.done("delete.data", image_id=image_id)
                if images.exists(image_id):
                    self._log_outside_trash(location, image_id)
                    return True
                records.change(image_id, lambda _: None)
                steps.done("delete.forget", image_id=image_id)
        except errors.RbdCsiError as error:
            if not stopped():
                self._report(location, images, image_id, error)
            return False
        self._unfinished.remove(location.id, image_id)
        return True

    def _report(
        self,
        location: locations.Location,
        images: Images,
        image_id: str,
        error: errors.RbdCsiError,
    ) -> None:
        """Log and count a deletion that does not finish, with the clients that hold the image."""
        watchers: frozenset[str] = frozenset()
        if isinstance(error, errors.Refused):
            with contextlib.suppress(errors.RbdCsiError):
                watchers = images.watchers(image_id)
        _log.warning(
            "data not removed, because a client has the image open; to be repeated"
            if watchers
            else "data not removed, to be repeated",
            cluster=location.id.cluster_id,
            pool=location.pool,
            image_id=image_id,
            deleted_since=self._count(location, image_id),
            open_by=sorted(watchers),
            error=str(error),
        )

    def _log_outside_trash(self, location: locations.Location, image_id: str) -> None:
        """Log and count a deletion that waits for DeleteVolume: the call is under way, or died."""
        _log.info(
            "image of a deleted volume is not in the trash yet",
            cluster=location.id.cluster_id,
            pool=location.pool,
            image_id=image_id,
            deleted_since=self._count(location, image_id),
        )

    def _count(self, location: locations.Location, image_id: str) -> str | None:
        """Count an image as not removed; return since when it is deleted, None if it is not."""
        begun = store.Records(location.ioctx).get(image_id).deleting
        if begun:
            self._unfinished.add(location.id, image_id, begun)
        return begun


def _renewed(location_lease: lease.Lease) -> bool:
    try:
        return location_lease.take()
    except errors.RbdCsiError as error:
        _log.warning("lease lost, removals are broken off", error=str(error))
        return False
