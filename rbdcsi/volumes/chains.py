"""Keeps chains of clones short, and the number of snapshots for clones low, in the background.

A chain is cut by flattening the image at its end: librbd copies into the image what it still reads
from its ancestors. With the last clone of a removed snapshot, librbd removes that snapshot. An
image with snapshots is left as it is until they are gone, see `ceph/flattening.py`. The manager's
module rbd_support could do it, too, but no call could make it pause.
"""

import time

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import blocklist, connections, locations, lost_parent
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.flattening import Claim, Claims
from rbdcsi.ceph.lineage import SnapshotKind
from rbdcsi.model import ids
from rbdcsi.telemetry import steps
from rbdcsi.volumes import ancestry, clone_notes
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_rules import SOFT_DEPTH
from rbdcsi.volumes.clone_turn import Turn
from rbdcsi.volumes.flatten import Flattening

_log = structlog.get_logger()

_QUIET_SECONDS = 60.0  # after a flattening that did not end: time for a snapshot that ended it


class Chains:
    """The chains of clones of one cluster."""

    def __init__(self, cluster_id: str, for_copying: connections.Connections) -> None:
        """Copy data by these connections, which keep no call waiting."""
        self._cluster_id = cluster_id
        self._for_copying = for_copying
        self._quiet_until: dict[ids.VolumeHandle, float] = {}  # monotonic

    def end_claim(self, connection: Connection, turn: Turn, image_id: str, claim: Claim) -> bool:
        """Finish the flattening of a process that died, or stopped, and end its claim.

        The caller has the lease and flattens nothing now. The client is put on the blocklist
        before: if its process goes on, it must not detach an image that has a snapshot by then. A
        client of a node may copy for it, as librbd asks the holder of the lock to do it, and no
        call can make that one stop. So the image is flattened to its end under a claim.
        """
        location = turn.location
        if self._is_quiet(location, image_id):
            return False
        with self._for_copying.use(self._cluster_id) as copying:
            is_own = claim.client == copying.address()
        # Ceph may still detach an image for a call that failed at the last object.
        if claim.is_at_last or not is_own:
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
        elif header and header.parent and not header.snapshots and not is_deleted:
            return self._flatten(turn, image_id, former=claim.client)
        if header and not is_deleted and not self._mended(turn, image_id):
            return False
        Claims(location.ioctx).end(image_id, claim.client)
        _log.info("ended a flattening that was cut off", image_id=image_id, client=claim.client)
        steps.done("flatten.end_claim", image_id=image_id, client=claim.client)
        return True

    def _mended(self, turn: Turn, image_id: str) -> bool:
        """Mend an image whose flattening was cut off; return False if it cannot be now."""
        with self._for_copying.use(self._cluster_id) as connection:
            return self._flattening(turn, image_id, connection).mend()

    def _flattening(self, turn: Turn, image_id: str, connection: Connection) -> Flattening:
        location = turn.location
        ioctx = connection.ioctx(location.id.pool_id, location.id.namespace)
        return Flattening(location, ioctx, image_id, turn.lease)

    def shorten(self, connection: Connection, turn: Turn, image_id: str) -> bool:
        """Flatten a noted image if that is still due; return False if it shall be soon.

        Its note stays while it waits for snapshots, its own or that of its parent, to be deleted.
        """
        location, notes = turn.location, CloneNotes(turn.location.ioctx)
        header, name = location.images.header(image_id), location.images.name_of(image_id)
        is_deep = header is not None and ancestry.depth(connection, header) > SOFT_DEPTH
        crowding = ancestry.crowding(connection, header) if header and not is_deep else None
        # An image in the trash cannot be flattened, and is in no call's way.
        if header is None or name is None or not (is_deep or crowding):
            notes.remove_deep(image_id)
            return True
        if header.snapshots or (crowding and crowding.kind is SnapshotKind.USER):
            return True
        if name.startswith(clone_notes.PREFIX):
            return False  # it is about to be renamed
        if self._is_quiet(location, image_id) or not self._flatten(turn, image_id):
            return False
        notes.remove_deep(image_id)
        return True

    def _is_quiet(self, location: locations.Location, image_id: str) -> bool:
        """Return whether the image is left alone for now, as its flattening did not end."""
        handle = ids.VolumeHandle(location.id, image_id)
        if time.monotonic() < self._quiet_until.get(handle, 0.0):
            return True
        self._quiet_until.pop(handle, None)
        return False

    def _flatten(self, turn: Turn, image_id: str, *, former: str = "") -> bool:
        """Flatten an image; return False if that was broken off, because it is to be changed.

        Args:
            turn: the location and its lease.
            image_id: the image.
            former: the client whose claim is taken over; empty if the image has no claim.
        """
        flattened = False
        try:
            with self._for_copying.use(self._cluster_id) as connection:
                claims, client = Claims(turn.location.ioctx), connection.address()
                if former:
                    is_claimed = claims.take_over(image_id, former, client)
                else:
                    is_claimed = claims.begin(image_id, client)
                if is_claimed:
                    steps.done("flatten.claim", image_id=image_id)
                    flattening = self._flattening(turn, image_id, connection)
                    flattened = _flatten_claimed(turn.location, flattening, client, former)
        finally:
            if not flattened:
                handle = ids.VolumeHandle(turn.location.id, image_id)
                self._quiet_until[handle] = time.monotonic() + _QUIET_SECONDS
        return flattened


def _flatten_claimed(
    location: locations.Location, flattening: Flattening, client: str, former: str
) -> bool:
    """Flatten an image that the client has claimed, and end the claim.

    After an error the claim stays, if Ceph may still detach the image for it, or a client of a node
    may still copy for the former client; see `end_claim`.
    """
    image_id, flattened, claims = flattening.image_id, False, Claims(location.ioctx)
    # Read after the claim: a snapshot or deletion that is not there by now sees the claim.
    header = location.images.header(image_id)
    is_deleted = store.Records(location.ioctx).get(image_id).deleting is not None
    if header and not header.snapshots and not is_deleted:
        try:
            flattened = flattening.run(client)
        except (errors.Exhausted, errors.Refused, errors.NotFound):  # a definite answer
            if flattening.mend():
                claims.end(image_id, client)
            raise
        except errors.Busy:  # a client does not answer, so nothing was begun
            if former:  # or another controller would put this living client on the blocklist
                claims.take_over(image_id, client, former)
            else:
                claims.end(image_id, client)
            raise
    claims.end(image_id, client)
    if flattened:
        steps.done("flatten.data", image_id=image_id)
    return flattened
