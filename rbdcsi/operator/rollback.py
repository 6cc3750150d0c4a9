"""Rolls a volume back in place to one of its snapshots.

The volume's record says so before anything changes, and until all is done; every other use of the
volume is refused until then (attachments/image_rules.py). A process that dies on the way leaves
the record, and an image that may be half old, half new. A repeat, to the same snapshot or to
another one, does all of it again. It first puts the client of the earlier process on the blocklist,
because that process may be frozen.

The image is opened before the record is written, and closed before the record is cleared. So a
client that is in the record and does not watch the image is not at work; and no lock of this
process is in the way of the next node.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import image_rules
from rbdcsi.attachments.records import Rollback, VolumeRecord
from rbdcsi.attachments.store import Records, StoredRecord
from rbdcsi.ceph import blocklist, flattening, rollback
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.ceph.objects import Header
from rbdcsi.ceph.rollback import ChangingImage
from rbdcsi.model import format_mark, ids
from rbdcsi.operator import rollback_checks
from rbdcsi.runtime import clock
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.telemetry import steps
from rbdcsi.volumes import expand, spec

_LEAVING_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_TRIES = 3  # of writing the mark: no node has the volume, so nothing else writes it


@dataclass(frozen=True)
class Plan:
    """A rollback that may be carried out.

    Attributes:
        handle: the volume.
        location: its location, for messages.
        image: the name of its image.
        header: of the image.
        record: the volume's.
        snapshot: the snapshot.
        name: the CSI name of the snapshot; None if another program took it.
    """

    handle: ids.VolumeHandle
    location: str
    image: str
    header: Header
    record: VolumeRecord
    snapshot: ImageSnapshot
    name: str | None


def examine(pooled: Connections, handle: ids.VolumeHandle, snapshot: str) -> Plan:
    """Return the rollback of a volume; nothing is written.

    Args:
        pooled: the connections.
        handle: the volume.
        snapshot: the snapshot's id, its CSI name, or the name of the RBD snapshot.

    Raises:
        NotFound: there is no such volume or snapshot.
        Refused: the volume cannot be rolled back to it; the message says why.
    """
    with pooled.use(handle.location.cluster_id) as connection:
        location = Locations(pooled).open(connection, handle.location)
        header = location.images.header(handle.image_id)
        image = location.images.name_of(handle.image_id)
        record = Records(location.ioctx).get(handle.image_id)
        if header is None or image is None or record.deleting:
            raise errors.NotFound(f"volume {handle} does not exist, or is being deleted")
        taken = Snapshots(connection.home(), connection.cluster_id).taken(volume=handle)
        names = {each.snap_id: name for each, name in taken}
        chosen = rollback_checks.chosen(handle, header, names, snapshot)
        rollback_checks.require_possible(handle, header, record, chosen)
        location_name = "/".join(filter(None, (location.pool, handle.location.namespace)))
        csi_name = names.get(chosen.snap_id)
        plan = Plan(handle, location_name, image, header, record, chosen, csi_name)
        with location.images.opened(handle.image_id) as opened:
            watchers = opened.watchers() - blocklist.addresses(connection)
        rollback_checks.require_unused(
            handle, watchers - ({record.rollback.client} if record.rollback else set())
        )
        return plan


def carry_out(pooled: Connections, plan: Plan) -> None:
    """Roll the volume back; a repeat after any crash finishes it.

    Raises:
        NotFound: volume or snapshot have gone since.
        Refused: a client has the image open, or its lock.
        Busy: another process rolls the volume back, or it is being grown or flattened.
        RbdCsiError: another failure. The message says whether the volume must be rolled back again.
    """
    handle = plan.handle
    with pooled.use(handle.location.cluster_id) as connection:
        location = Locations(pooled).open(connection, handle.location)
        work = _Work(connection, location, plan)
        with rollback.opened(location.ioctx, handle.image_id) as image:
            work.begin(image)
            work.roll_back(image)
        work.end()


class _Work:
    """One process's rollback of a volume."""

    def __init__(self, connection: Connection, location: Location, plan: Plan) -> None:
        self._connection = connection
        self._location = location
        self._plan = plan
        self._image_id = plan.handle.image_id
        self._records = Records(location.ioctx)
        self._client = connection.address()
        self._earlier: Rollback | None = None
        self._protected: tuple[int, ...] = ()
        self._ended: frozenset[str] = frozenset()

    def begin(self, image: ChangingImage) -> None:
        """Write the record, after the end of whatever another process has begun."""
        stored, snapshot = self._records.read(self._image_id), self._plan.snapshot
        header = self._header()
        self._require_possible(header, stored.record)
        self._ended = self._end_others(image, stored, header)
        if earlier := self._earlier:
            others = {earlier.snap_id, *earlier.protected} - {snapshot.snap_id}
            self._protected = tuple(sorted(others))
        own = Rollback(
            self._client,
            snapshot.snap_id,
            snapshot.name,
            header.size,
            clock.now(),
            self._protected,
        )
        stored = self._records.change(
            self._image_id,
            lambda record: image_rules.begin_rollback(
                record, str(self._plan.handle), own, self._ended
            ),
            stored,
        )
        steps.done("rollback.record", volume=str(self._plan.handle), snapshot=snapshot.name)

    def _require_possible(self, header: Header, record: VolumeRecord) -> None:
        """Look again: a person has thought about the question."""
        handle, snap_id = self._plan.handle, self._plan.snapshot.snap_id
        snapshot = header.user_snapshot(snap_id)
        if snapshot is None:
            raise errors.NotFound(f"volume {handle} has no snapshot {snap_id} any more")
        rollback_checks.require_possible(handle, header, record, snapshot)

    def _end_others(
        self, image: ChangingImage, stored: StoredRecord, header: Header
    ) -> frozenset[str]:
        """End the clients that began to change the image and do not answer; return them."""
        ended = expand.end_unfinished(self._connection, stored.record, self._client, header.size)
        earlier = stored.record.rollback
        if earlier is None or earlier.client == self._client:
            self._earlier = earlier
            return ended
        if earlier.client in image.watchers() and image.all_answer():
            return ended  # `begin_rollback` refuses
        blocklist.end_process(self._connection, earlier.client)
        self._location.images.break_lock(self._image_id, earlier.client)
        steps.done("rollback.blocklist", client=earlier.client)
        self._earlier = earlier
        return ended | {earlier.client}

    def roll_back(self, image: ChangingImage) -> None:
        """Change the image, its mark, and the protection of its snapshots."""
        snapshot, ioctx = self._plan.snapshot, self._location.ioctx
        with self._reverting():
            for snap_id in self._protected:
                rollback.unprotect(ioctx, self._image_id, snap_id)
            rollback.protect(ioctx, self._image_id, snapshot.snap_id)
            steps.done("rollback.protect", snapshot=snapshot.name)
            with flattening.excluded([(ioctx, self._image_id)]):
                image.lock()
            rollback_checks.require_unused(self._plan.handle, self._staying(image))
            mark, own = self._mark(), self._records.get(self._image_id).rollback
        with self._explaining():
            image.roll_back(snapshot.snap_id, own.size if own else 0)
            self._write_mark(mark)
            rollback.unprotect(ioctx, self._image_id, snapshot.snap_id)
            steps.done("rollback.unprotect", snapshot=snapshot.name)

    def _staying(self, image: ChangingImage) -> frozenset[str]:
        """Return the other clients that have the image open.

        Another process may have opened it for a rollback before it could read this one's record. It
        gives way at once, so it is waited for: otherwise each of the two would refuse.
        """
        ends_at = time.monotonic() + _LEAVING_SECONDS
        while True:
            others = image.watchers() - {self._client} - self._ended
            others -= blocklist.addresses(self._connection)
            if not others or time.monotonic() > ends_at:
                return others
            time.sleep(_PAUSE_SECONDS)

    def end(self) -> None:
        """Let the volume be used again."""
        with self._explaining():
            if not self._is_own(self._records.get(self._image_id)):
                raise errors.Busy("another process has taken over")
            self._records.change(
                self._image_id, lambda record: image_rules.end_rollback(record, self._client)
            )
            steps.done("rollback.end", volume=str(self._plan.handle))

    def _is_own(self, record: VolumeRecord) -> bool:
        return record.rollback is not None and record.rollback.client == self._client

    @contextlib.contextmanager
    def _reverting(self) -> Iterator[None]:
        """Clear the record after an error of the body, which has not changed the image."""
        try:
            yield
        except errors.RbdCsiError:
            snap_id = self._plan.snapshot.snap_id
            if self._earlier is None or self._earlier.snap_id != snap_id:
                rollback.unprotect(self._location.ioctx, self._image_id, snap_id)
            self._records.change(
                self._image_id,
                lambda record: image_rules.end_rollback(record, self._client, self._earlier),
            )
            raise

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Add the state of the volume to the message of an error of the body."""
        try:
            yield
        except errors.RbdCsiError as error:
            handle, snapshot = self._plan.handle, self._plan.snapshot
            again = image_rules.command(str(handle), snapshot.snap_id)
            raise type(error)(
                f"volume {handle} was not rolled back as a whole, and cannot be attached until it "
                f"is: {error}. Then run it again: `{again}`"
            ) from error

    def _write_mark(self, mark: format_mark.Mark | None) -> None:
        """Write the mark of the snapshot's content: image metadata is in no snapshot."""
        key, new = format_mark.KEY, format_mark.MARK.encode(mark) if mark else None
        for _ in range(_TRIES):
            old = self._header().metadata.get(key)
            if new == old or self._location.images.set_metadata(
                self._image_id,
                {key: new} if new else {},
                key=key,
                old=old,
                remove=() if new else (key,),
            ):
                steps.done("rollback.mark", image=self._plan.image)
                return
        raise errors.Busy(f"metadata {format_mark.KEY} of the image keeps changing")

    def _mark(self) -> format_mark.Mark | None:
        handle, image, header = self._plan.handle, self._plan.image, self._header()
        snapshot = ids.SnapshotHandle(handle, self._plan.snapshot.snap_id)
        records = Snapshots(self._connection.home(), self._connection.cluster_id)
        if stored := records.of_snapshot(snapshot):
            return format_mark.rolled_back(format_mark.read_mark(stored.record.mark, image))
        volume_spec = spec.read(header.metadata, image)
        mark = format_mark.of_unrecorded(
            format_mark.read_mark(header.metadata.get(format_mark.KEY), image),
            volume_spec.fs_type if volume_spec else None,
            rolled_back=self._records.get(self._image_id).rollbacks > 1,  # one is this
        )
        return format_mark.rolled_back(mark)

    def _header(self) -> Header:
        header = self._location.images.header(self._image_id)
        if header is None:
            raise errors.NotFound(f"volume {self._plan.handle} does not exist any more")
        return header
