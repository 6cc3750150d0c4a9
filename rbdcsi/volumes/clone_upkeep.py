"""Background work of a controller for clones: keep chains short, remove what attempts have left.

A chain of clones is cut by flattening the image at its end: librbd copies into the image what it
still reads from its ancestors. An image with snapshots is left as it is until they are gone, see
`ceph/flattening.py`. A lease lets one controller work on a location. The manager's module
rbd_support could do it, too, but no call could make it pause.
"""

import time

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import blocklist, connections, lease, locations, lost_parent
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.flattening import Claim, Claims
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.model import ids
from rbdcsi.telemetry import metrics, steps
from rbdcsi.volumes import ancestry, clone, clone_notes
from rbdcsi.volumes.clone_notes import Attempt, CloneNotes
from rbdcsi.volumes.clone_rules import SOFT_DEPTH
from rbdcsi.volumes.flatten import Flattening

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_DEEP_PAUSE_SECONDS = 2.0  # while images are being flattened
_ATTEMPT_SECONDS = 600.0  # twice as long as a call may take
_QUIET_SECONDS = 60.0  # after a snapshot was asked for, time to take it


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
        self._quiet_until: dict[ids.VolumeHandle, float] = {}  # monotonic
        self._deep: dict[ids.LocationId, int] = {}  # how many images, where there are some

    def add(self, location_id: ids.LocationId) -> None:
        """Look at a location soon, because an image there has too many ancestors."""
        self._due.add(location_id)

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
            claims = Claims(location.ioctx).all()
            if not over and not deep and not claims:
                return 0
            location_lease = lease.Lease(location.ioctx, clone_notes.OBJECT, "rbdcsi.clones")
            if not location_lease.take():
                return len(deep)
            try:
                for image_id, claim in claims.items():
                    self._end_claim(connection, location, image_id, claim, location_lease)
                for token, attempt in over.items():
                    self._undo(connection, location, notes, token, attempt)
                return sum(
                    not self._shallow(connection, location, notes, image_id, location_lease)
                    for image_id in deep
                )
            finally:
                location_lease.release()

    def _end_claim(
        self,
        connection: Connection,
        location: locations.Location,
        image_id: str,
        claim: Claim,
        location_lease: lease.Lease,
    ) -> None:
        """End the claim of a process that died, or stopped, while it flattened an image.

        The caller has the lease and flattens nothing now. The client is put on the blocklist
        before: if its process goes on, it must not detach an image that has a snapshot by then.
        """
        blocklist.end_process(connection, claim.client)
        header = location.images.header(image_id)
        is_deleted = store.Records(location.ioctx).get(image_id).deleting is not None
        is_lost = header is not None and lost_parent.is_lost(connection, header)
        if is_lost and (claim.is_at_last or is_deleted):
            lost_parent.detach(location.ioctx, image_id)
            steps.done("flatten.detach", image_id=image_id)
        elif is_lost:
            _log.error(
                "no client can open an image: the parent's snapshot is gone, and nothing shows "
                "that all data was copied before; `rbdcsi doctor` says what can be done",
                pool=location.pool,
                image_id=image_id,
            )
            header = None
        if header and not is_deleted and not self._mended(location, image_id, location_lease):
            return
        Claims(location.ioctx).end(image_id, claim.client)
        _log.info("ended a flattening that was cut off", image_id=image_id, client=claim.client)
        steps.done("flatten.end_claim", image_id=image_id, client=claim.client)

    def _mended(
        self, location: locations.Location, image_id: str, location_lease: lease.Lease
    ) -> bool:
        """Mend an image whose flattening was cut off; return False if it cannot be now."""
        with self._for_copying.use(location.id.cluster_id) as connection:
            ioctx = connection.ioctx(location.id.pool_id, location.id.namespace)
            return Flattening(location, ioctx, image_id, location_lease).mend()

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
        connection: Connection,
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
        except (errors.Refused, errors.Busy) as error:
            _log.info("the rest of a clone is in use, to be removed later", error=str(error))
            return
        notes.begin_end(token).result()
        steps.done("clone.undone", source=attempt.source, since=attempt.since)

    def _shallow(
        self,
        connection: Connection,
        location: locations.Location,
        notes: CloneNotes,
        image_id: str,
        location_lease: lease.Lease,
    ) -> bool:
        """Flatten an image if it has too many ancestors; return False if it shall be soon."""
        header, name = location.images.header(image_id), location.images.name_of(image_id)
        # An image in the trash cannot be flattened, and is in no call's way.
        if header is None or name is None or ancestry.depth(connection, header) <= SOFT_DEPTH:
            notes.remove_deep(image_id)
            return True
        if header.snapshots:
            return True  # the note stays until they are gone
        if name.startswith(clone_notes.PREFIX):
            return False  # it is about to be renamed
        handle = ids.VolumeHandle(location.id, image_id)
        if time.monotonic() < self._quiet_until.get(handle, 0.0):
            return False
        self._quiet_until.pop(handle, None)
        if self._flatten(location, image_id, location_lease):
            notes.remove_deep(image_id)
            return True
        self._quiet_until[handle] = time.monotonic() + _QUIET_SECONDS
        return False

    def _flatten(
        self, location: locations.Location, image_id: str, location_lease: lease.Lease
    ) -> bool:
        """Flatten an image; return False if that was broken off, because it is to be changed.

        After any other error the claim stays, because Ceph may still do the last operation; see
        `_end_claim`.
        """
        with self._for_copying.use(location.id.cluster_id) as connection:
            ioctx = connection.ioctx(location.id.pool_id, location.id.namespace)
            claims, client = Claims(location.ioctx), connection.address()
            if not claims.begin(image_id, client):
                return False
            steps.done("flatten.claim", image_id=image_id)
            # Read after the claim: a snapshot or deletion that is not there by now sees the claim.
            header = location.images.header(image_id)
            is_deleted = store.Records(location.ioctx).get(image_id).deleting is not None
            flattened = False
            if header and not header.snapshots and not is_deleted:
                flattened = Flattening(location, ioctx, image_id, location_lease).run(client)
            claims.end(image_id, client)
        if flattened:
            steps.done("flatten.data", image_id=image_id)
        return flattened
