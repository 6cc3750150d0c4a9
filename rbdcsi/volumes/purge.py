"""Removes the data of deleted volumes, in the background of a controller.

The volumes' records say which images are left, so any controller carries on after any crash. A
thread for each cluster looks at a location after a deletion there, and at all known ones each
minute; a pool or cluster that does not answer is left out, and keeps no other one from it. Two
processes must not remove one image at the same time: librbd then ends its process by an assertion
(TrimRequest: the exclusive lock was lost). So a lease lets one controller purge a location.

An image that snapshots or clones need waits. It is looked at when a snapshot or volume of its
location is deleted, when a clone of it is removed, and each minute.
"""

import math
import threading
import time
from concurrent import futures

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, lease, locations, trash
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.model import ids
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.volumes.removal import Deleted, Removal
from rbdcsi.volumes.unfinished import UnfinishedDeletions

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 600.0
_RETRY_SECONDS = 5.0  # if an image is left
_SHARE = 20  # the pause after a look at all locations is at least so many times as long as the look
_READ_SECONDS = 3600.0  # older drivers listed no deletions: they are found in the records
_RENEW_SECONDS = lease.SECONDS / 3
_SETTLE_SECONDS = 1.0  # after a deletion's purge: others that come with it are purged together
_MOVE_SECONDS = 300.0  # much longer than a call that moves an image to the trash can take
_STOP_SECONDS = 5.0  # a removal that is cut off is finished after the next start
_REMOVALS = 2  # images whose data is removed at the same time


class Purger:
    """Removes deleted images of one cluster, in a thread of its own."""

    def __init__(
        self,
        cluster_id: str,
        pooled: connections.Connections,
        removal_connections: connections.Connections,
        *,
        move_seconds: float = _MOVE_SECONDS,
    ) -> None:
        """Purge every known location of a cluster.

        librbd processes a large object map in the connection's only completion thread, so
        CreateVolume on the same connection would wait for that.

        Args:
            cluster_id: the cluster.
            pooled: the connections that list locations and change records.
            removal_connections: the connections that remove data; nothing else uses them.
            move_seconds: a move to the trash that is seen for so long was cut off.
        """
        self._cluster_id = cluster_id
        self._connections = pooled
        self._locations = locations.Locations(pooled)
        self._removal_connections = removal_connections
        self._move_seconds = move_seconds
        self._unfinished = UnfinishedDeletions(cluster_id)
        self._first_seen: dict[tuple[ids.LocationId, str], float] = {}  # moves, monotonic
        self._read_at: dict[ids.LocationId, float] = {}  # every record, monotonic
        self._due: set[ids.LocationId] = set()  # to be purged soon
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

    def wake(self, location_id: ids.LocationId) -> None:
        """Purge a location soon, because a volume was deleted there."""
        self._due.add(location_id)
        self._wake.set()

    def _purge_until_stopped(self) -> None:
        all_due, woken = 0.0, False  # monotonic
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                if begun >= all_due:
                    self._due |= set(self._all())
                    self._purge_due()
                    seconds = _SHARE * (time.monotonic() - begun)
                    pause = min(max(seconds, _PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
                    all_due = time.monotonic() + pause
                else:
                    self._purge_due()
            except Exception as error:  # noqa: BLE001  the thread must go on
                all_due = begun + _RETRY_SECONDS
                _log.warning("purge failed, to be repeated", exc_info=error)
            if woken:
                self._stopping.wait(_SETTLE_SECONDS)
            pause = _RETRY_SECONDS if self._due else all_due - time.monotonic()
            woken = self._wake.wait(max(0.0, pause))
            self._wake.clear()

    def _all(self) -> list[ids.LocationId]:
        """Return the known locations of the cluster."""
        location_ids = self._locations.known(self._cluster_id)
        self._unfinished.keep_locations(location_ids)
        self._read_at = {each: self._read_at.get(each, -math.inf) for each in location_ids}
        return location_ids

    def _purge_due(self) -> None:
        """Purge the locations that are due; they stay due if an image is left."""
        sick = SickPools(_RETRY_SECONDS)
        for location_id in sorted(self._due):
            if self._stopping.is_set():
                return
            if location_id in sick:
                continue
            self._due.discard(location_id)  # a deletion from now on makes it due again
            try:
                done = self._purge_location(location_id)
            except errors.Unavailable as error:
                done = False
                sick.add(location_id, error, "deleted data is not removed")
            except Exception as error:  # noqa: BLE001  the other locations must not wait for it
                done = False
                _log.warning(
                    "purge of a pool failed, to be repeated",
                    pool=location_id.pool_id,
                    exc_info=error,
                )
            if not done:
                self._due.add(location_id)

    def _purge_location(self, location_id: ids.LocationId) -> bool:
        """Purge a location; return False if an image is left."""
        with self._connections.use(self._cluster_id) as connection:
            try:
                return self._purge(self._locations.open(connection, location_id))
            except errors.NotFound:
                self._remove_lost(connection, location_id)
            except errors.Forbidden as error:
                _log.warning(
                    "deleted data is not removed, because the configured user may not read a "
                    "pool that holds volumes; to be repeated",
                    cluster=self._cluster_id,
                    pool=location_id.pool_id,
                    namespace=location_id.namespace,
                    error=str(error),
                )
        return True

    def _remove_lost(self, connection: Connection, location_id: ids.LocationId) -> None:
        """Remove a location from the known ones if its pool is gone."""
        if all(pool.pool_id != location_id.pool_id for pool in connection.pools()):
            locations.Registry(connection.home(), self._cluster_id).remove(location_id)

    def _purge(self, location: locations.Location) -> bool:
        deleting = self._deleting(location)
        self._unfinished.keep(location.id, deleting)
        if not deleting:
            return True
        location_lease = lease.Lease(location.ioctx, locations.MARKER, "rbdcsi.sweeper")
        if not location_lease.take():
            return False
        try:
            # Another controller may have had the lease since they were listed.
            deleting = store.Records(location.ioctx).deleting_among(deleting)
            return self._remove_all(location, deleting, location_lease)
        finally:
            location_lease.release()

    def _deleting(self, location: locations.Location) -> list[str]:
        """Return the ids of the deleted images, now and then by a look at every record."""
        records, now = store.Records(location.ioctx), time.monotonic()
        if now - self._read_at.get(location.id, -math.inf) < _READ_SECONDS:
            return records.listed_as_deleting()
        deleting = records.deleting()
        self._read_at[location.id] = now
        return deleting

    def _remove_all(
        self, location: locations.Location, deleting: list[str], location_lease: lease.Lease
    ) -> bool:
        location_id, lost = location.id, threading.Event()

        def stopped() -> bool:
            return self._stopping.is_set() or lost.is_set()

        with self._removal_connections.use(location_id.cluster_id) as connection:
            removal = Removal(
                location,
                connection.ioctx(location_id.pool_id, location_id.namespace),
                Snapshots(connection.home(), location_id.cluster_id),
                self._unfinished,
                stopped,
                self.wake,
                lambda: self._removal_connections.use(location_id.cluster_id),
            )
            images = removal.read(deleting)
        moving_now = self._moving_now(location_id, images)
        with futures.ThreadPoolExecutor(_REMOVALS, "removal") as executor:
            removals = [
                executor.submit(removal.remove, each)
                for each in images
                if each.image_id not in moving_now
            ]
            while futures.wait(removals, _RENEW_SECONDS).not_done:
                if not lost.is_set() and not lease.renewed(location_lease):
                    lost.set()
        return all(removal.result() for removal in removals) and not moving_now

    def _moving_now(self, location_id: ids.LocationId, images: list[Deleted]) -> set[str]:
        """Return the ids of the images that a call may be moving to the trash now.

        A move counts as cut off by the time since this process saw it first, on its own clock.
        """
        now = time.monotonic()
        moves = {
            (location_id, each.image_id)
            for each in images
            if each.entry and each.entry.state is trash.State.MOVING
        }
        others = {key: seen for key, seen in self._first_seen.items() if key[0] != location_id}
        self._first_seen = others | {key: self._first_seen.get(key, now) for key in moves}
        return {key[1] for key in moves if now - self._first_seen[key] < self._move_seconds}
