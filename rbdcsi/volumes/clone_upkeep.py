"""Background work of a controller for clones: keep chains short, remove what attempts have left.

A chain of clones is cut by flattening an image of it: librbd copies into the image what it still
reads from its ancestors. A lease lets one controller work on a location. The manager's module
rbd_support could do it, too, but no call could make it pause: see `cloning.flatten`.
"""

import datetime
import threading
import time
from concurrent import futures

import structlog

from rbdcsi import errors
from rbdcsi.ceph import cloning, connections, lease, locations
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.model import ids
from rbdcsi.telemetry import metrics, steps
from rbdcsi.volumes import ancestry, clone, clone_notes
from rbdcsi.volumes.clone_notes import Attempt, CloneNotes
from rbdcsi.volumes.clone_rules import SOFT_DEPTH

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_DEEP_PAUSE_SECONDS = 2.0  # while images are being flattened
_ATTEMPT_SECONDS = 600.0  # twice as long as a call may take
_FOREIGN_SECONDS = 600.0  # an image that another process has not flattened by then
_RENEW_SECONDS = lease.SECONDS / 3


class CloneUpkeep:
    """Looks after the clones of one cluster."""

    def __init__(
        self,
        cluster_id: str,
        pooled: connections.Connections,
        for_copying: connections.Connections,
        *,
        attempt_seconds: float = _ATTEMPT_SECONDS,
        round_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """Look after the known locations of a cluster.

        Args:
            cluster_id: the cluster.
            pooled: the connections.
            for_copying: the connections that copy data, and keep no call waiting.
            attempt_seconds: a call whose note is seen for so long has ended.
            round_seconds: the time between two looks at all of them.
        """
        self._cluster_id = cluster_id
        self._connections = pooled
        self._for_copying = for_copying
        self._locations = locations.Locations(pooled)
        self._attempt_seconds = attempt_seconds
        self._first_seen: dict[tuple[ids.LocationId, str], float] = {}  # attempts, monotonic
        self._round_seconds = round_seconds
        self._all_due = 0.0  # monotonic
        self._due: set[ids.LocationId] = set()  # to be looked at soon
        self._own: set[ids.VolumeHandle] = set()  # that this process has found to be deep
        self._deep: dict[ids.LocationId, int] = {}  # how many images, where there are some

    def add(self, handle: ids.VolumeHandle) -> None:
        """Flatten an image soon, because it has too many ancestors.

        The process that serves the calls does it: it can break off for a snapshot.
        """
        self._own.add(handle)
        self._due.add(handle.location)

    def run(self) -> float:
        """Look at the locations that are due; return the seconds until the next look."""
        sick, now = SickPools(_PAUSE_SECONDS), time.monotonic()
        due = sorted(self._due)
        if now >= self._all_due:
            due, self._all_due = self._locations.known(self._cluster_id), now + self._round_seconds
            self._deep = {each: deep for each, deep in self._deep.items() if each in due}
        for location_id in due:
            if location_id in sick:
                continue
            self._due.discard(location_id)
            try:
                self._deep[location_id] = self._tend(location_id)
            except errors.Unavailable as error:
                self._deep.pop(location_id, None)
                sick.add(location_id, error, "left-overs of clones, and long chains of them")
            except errors.NotFound:  # the pool is gone
                self._deep.pop(location_id, None)
            except errors.RbdCsiError as error:
                _log.warning(
                    "clones not looked after, to be repeated",
                    cluster=self._cluster_id,
                    pool=location_id.pool_id,
                    error=str(error),
                )
        self._due |= {location_id for location_id, deep in self._deep.items() if deep}
        cluster: tuple[str, ...] = (self._cluster_id,)
        metrics.CLONES_DEEP.replace(self._cluster_id, {cluster: sum(self._deep.values())})
        return _DEEP_PAUSE_SECONDS if self._due else max(0.0, self._all_due - time.monotonic())

    def _tend(self, location_id: ids.LocationId) -> int:
        """Look at one location; return how many of its images are still too deep."""
        with self._connections.use(self._cluster_id) as connection:
            location = self._locations.open(connection, location_id)
            notes = CloneNotes(location.ioctx)
            over, deep = self._over(location_id, notes), notes.deep()
            if not over and not deep:
                return 0
            location_lease = lease.Lease(location.ioctx, clone_notes.OBJECT, "rbdcsi.clones")
            if not location_lease.take():
                return len(deep)
            try:
                for token, attempt in over.items():
                    self._undo(connection, location, notes, token, attempt)
                return sum(
                    not self._shallow(connection, location, notes, image_id, location_lease)
                    for image_id, since in deep.items()
                    if self._is_own(location_id, image_id, since)
                )
            finally:
                location_lease.release()

    def _is_own(self, location_id: ids.LocationId, image_id: str, since: str) -> bool:
        """Return whether this process may flatten an image: also if another one has not, for long.

        It must not meet a snapshot that another process takes of the image; see `cloning.flatten`.
        """
        seconds = time.time() - datetime.datetime.fromisoformat(since).timestamp()
        return ids.VolumeHandle(location_id, image_id) in self._own or seconds > _FOREIGN_SECONDS

    def _over(self, location_id: ids.LocationId, notes: CloneNotes) -> dict[str, Attempt]:
        """Return the attempts that have ended without removing their notes."""
        now, attempts = time.monotonic(), notes.attempts()
        others = {key: seen for key, seen in self._first_seen.items() if key[0] != location_id}
        keys = [(location_id, token) for token in attempts]
        self._first_seen = others | {key: self._first_seen.get(key, now) for key in keys}
        over: dict[str, Attempt] = {}
        for token, attempt in attempts.items():
            if isinstance(attempt, errors.Failed):
                _log.warning("a damaged note of a clone is left", error=str(attempt))
            elif now - self._first_seen[location_id, token] >= self._attempt_seconds:
                over[token] = attempt
        return over

    def _undo(
        self,
        connection: connections.Connection,
        location: locations.Location,
        notes: CloneNotes,
        token: str,
        attempt: Attempt,
    ) -> None:
        """Remove what an attempt left, unless a client still has it open."""
        source = None
        try:
            if attempt.snapshots:
                source = self._locations.open(connection, attempt.volume.location)
        except errors.NotFound:  # the pool is gone, and the snapshot with it
            source = None
        try:
            clone.undo(source, attempt.volume, location, token)
        except errors.Refused as error:
            _log.info("the rest of a clone is in use, to be removed later", error=str(error))
            return
        notes.end(token)
        steps.done("clone.undone", source=attempt.source, since=attempt.since)

    def _shallow(
        self,
        connection: connections.Connection,
        location: locations.Location,
        notes: CloneNotes,
        image_id: str,
        location_lease: lease.Lease,
    ) -> bool:
        """Flatten an image if it has too many ancestors; return whether it has few now."""
        header, name = location.images.header(image_id), location.images.name_of(image_id)
        # An image in the trash cannot be flattened, and is in no call's way.
        if header is None or name is None or ancestry.depth(connection, header) <= SOFT_DEPTH:
            notes.remove_deep(image_id)
            self._own.discard(ids.VolumeHandle(location.id, image_id))
            return True
        if name.startswith(clone_notes.PREFIX):
            return False  # it is about to be renamed
        try:
            self._flatten(location, image_id, location_lease)
        except errors.Busy:  # another call changes the image; what is copied stays
            return False
        notes.remove_deep(image_id)
        return True

    def _flatten(
        self, location: locations.Location, image_id: str, location_lease: lease.Lease
    ) -> None:
        location_id, lost = location.id, threading.Event()
        with (
            self._for_copying.use(location_id.cluster_id) as connection,
            futures.ThreadPoolExecutor(1, "flatten") as executor,
        ):
            ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
            copying = executor.submit(cloning.flatten, ioctx, image_id, lost.is_set)
            while futures.wait([copying], _RENEW_SECONDS).not_done:
                deleted = location.images.name_of(image_id) is None
                if not lost.is_set() and (deleted or not lease.renewed(location_lease)):
                    lost.set()
            copying.result()
        steps.done("flatten.data", image_id=image_id)
