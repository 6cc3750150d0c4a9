"""A controller's background work for clones: flatten the noted ones, remove what attempts left.

A lease lets one controller work on a location; see `chains.py` for the chains.
"""

import time
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.ceph import connections, lease, locations
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.flattening import Claims
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.model import ids
from rbdcsi.telemetry import metrics, steps
from rbdcsi.volumes import clone_notes, clone_undo
from rbdcsi.volumes.chains import Chains
from rbdcsi.volumes.clone_notes import Attempt, CloneNotes
from rbdcsi.volumes.clone_turn import Turn

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_DEEP_PAUSE_SECONDS = 2.0  # while images are being flattened
_ATTEMPT_SECONDS = 900.0  # longer than a call with its two times to finish


@dataclass(frozen=True)
class _Noted:
    """How many images of a location are to be flattened: soon, or when snapshots are deleted."""

    soon: int
    waiting: int


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
        self._chains = Chains(cluster_id, for_copying)
        self._locations = locations.Locations(pooled)
        self._attempt_seconds = attempt_seconds
        self._first_seen: dict[tuple[ids.LocationId, str], float] = {}  # attempts, monotonic
        self._round_seconds = round_seconds
        self._all_due = 0.0  # monotonic
        self._due: set[ids.LocationId] = set()  # to be looked at soon
        self._noted: dict[ids.LocationId, _Noted] = {}

    def add(self, location_id: ids.LocationId) -> None:
        """Look at a location soon, because an image there is to be flattened."""
        self._due.add(location_id)

    def run(self) -> float:
        """Look at the locations that are due; return the seconds until the next look."""
        sick, now = SickPools(_PAUSE_SECONDS), time.monotonic()
        due = sorted(self._due)
        if now >= self._all_due:
            due, self._all_due = self._locations.known(self._cluster_id), now + self._round_seconds
            self._noted = {each: noted for each, noted in self._noted.items() if each in due}
        for location_id in due:
            if location_id in sick:
                continue
            self._due.discard(location_id)
            try:
                self._noted[location_id] = self._tend(location_id)
            except errors.Unavailable as error:
                self._noted.pop(location_id, None)
                sick.add(location_id, error, "left-overs of clones, and long chains of them")
            except errors.RbdCsiError as error:
                _log.warning(
                    "clones not looked after, to be repeated",
                    cluster=self._cluster_id,
                    pool=location_id.pool_id,
                    error=str(error),
                )
        self._due |= {location_id for location_id, noted in self._noted.items() if noted.soon}
        self._report()
        return _DEEP_PAUSE_SECONDS if self._due else max(0.0, self._all_due - time.monotonic())

    def _report(self) -> None:
        cluster: tuple[str, ...] = (self._cluster_id,)
        noted = self._noted.values()
        metrics.CLONES_DEEP.replace(self._cluster_id, {cluster: sum(each.soon for each in noted)})
        waiting = {cluster: sum(each.waiting for each in noted)}
        metrics.CLONES_WAITING.replace(self._cluster_id, waiting)

    def _tend(self, location_id: ids.LocationId) -> _Noted:
        """Look at one location; return how many of its images are still to be flattened."""
        with self._connections.use(self._cluster_id) as connection:
            try:
                location = self._locations.open(connection, location_id)
            except errors.NotFound:  # the pool is gone
                return _Noted(0, 0)
            notes = CloneNotes(location.ioctx)
            over, deep = self._over(location_id, notes), notes.deep()
            claims = Claims(location.ioctx).all()
            if not over and not deep and not claims:
                return _Noted(0, 0)
            location_lease = lease.Lease(location.ioctx, clone_notes.OBJECT, "rbdcsi.clones")
            if not location_lease.take():
                return _Noted(len(deep), 0)
            turn = Turn(location, location_lease)
            try:
                # Read again: another controller may have ended its own before it gave the lease up.
                for image_id, claim in Claims(location.ioctx).all().items():
                    turn.take(image_id, self._chains.end_claim, connection, turn, image_id, claim)
                for token, attempt in over.items():
                    turn.take(token, self._undo, connection, location, notes, token, attempt)
                soon = sum(
                    not turn.take(image_id, self._chains.shorten, connection, turn, image_id)
                    for image_id in deep
                )
                return _Noted(soon, max(0, len(notes.deep()) - soon) if deep else 0)
            finally:
                location_lease.release()

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
    ) -> bool:
        """Remove what an attempt left; return False if a client still has it open."""
        source = None
        try:
            if attempt.snapshots:
                source = self._locations.open(connection, attempt.volume.location)
        except errors.NotFound:  # the pool is gone, and the snapshot with it
            source = None
        try:
            clone_undo.undo(source, attempt.volume, location, token)
        except (errors.Refused, errors.Busy) as error:
            _log.info("the rest of a clone is in use, to be removed later", error=str(error))
            return False
        notes.begin_end(token).result()
        steps.done("clone.undone", source=attempt.source, since=attempt.since)
        return True
