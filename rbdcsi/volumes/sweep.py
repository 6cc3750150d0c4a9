"""Removes the data of deleted volumes, in the background of a controller.

What is left to do stands in the volumes' records, so any controller carries on after any crash.
Two must not remove one image at the same time: librbd then ends its process by an assertion
(TrimRequest: the exclusive lock was lost). So a lease lets one controller sweep a location.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures

import structlog

from rbdcsi import errors, handles, steps
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, lease, trash
from rbdcsi.ceph.images import Images
from rbdcsi.volumes import locations

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_RETRY_SECONDS = 5.0  # when something is left to do
_RENEW_SECONDS = lease.SECONDS / 3
_SETTLE_SECONDS = 1.0  # after a deletion's sweep: others that come with it are swept together
_MOVE_SECONDS = 300.0  # much longer than a call that moves an image to the trash can take
_STOP_SECONDS = 5.0  # a removal that is cut off is finished after the next start
_REMOVALS = 2  # images whose data is removed at the same time


class Sweeper:
    """Sweeps up what was deleted, in a thread of its own."""

    def __init__(
        self,
        pooled: connections.Connections,
        apart: connections.Connections,
        *,
        move_seconds: float = _MOVE_SECONDS,
    ) -> None:
        """Remove data by the connections `apart`, which nobody else uses.

        A move to the trash that was under way for `move_seconds` was cut off, and is finished.

        librbd goes through a large image's object map in the thread that ends every operation of
        its connection: a volume that is created by the same one waits until that is done.
        """
        self._locations = locations.Locations(pooled)
        self._apart = apart
        self._move_seconds = move_seconds
        self._moving: dict[tuple[handles.Location, str], float] = {}  # since when, monotonic
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._sweep_until_stopped, name="sweeper", daemon=True
        )

    def start(self) -> None:
        """Begin sweeping."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, also in the middle of an image; the rest waits for the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def wake(self) -> None:
        """Say that there is something to remove."""
        self._wake.set()

    def _sweep_until_stopped(self) -> None:
        woken = False
        while not self._stopping.is_set():
            done = False
            try:
                done = self._sweep()
            except Exception as error:  # noqa: BLE001  the thread must go on, and nobody else tells
                _log.warning("sweep failed, to be repeated", error=str(error), exc_info=error)
            if woken:
                self._stopping.wait(_SETTLE_SECONDS)
            woken = self._wake.wait(_PAUSE_SECONDS if done else _RETRY_SECONDS)
            self._wake.clear()

    def _sweep(self) -> bool:
        """Sweep every location; False if something is left to do."""
        done = True
        for place in self._locations.all():
            try:
                done &= self._sweep_at(place)
            except errors.RbdCsiError as error:
                done = False
                _log.warning(
                    "sweep of a pool failed, to be repeated", pool=place.pool, error=str(error)
                )
        return done

    def _sweep_at(self, place: locations.Place) -> bool:
        if not store.Records(place.ioctx).deleting():
            return True
        held = lease.Lease(place.ioctx, locations.MARKER, "rbdcsi.sweeper")
        if not held.take():
            return False
        try:
            return self._remove_all(place, held)
        finally:
            held.give_back()

    def _remove_all(self, place: locations.Place, held: lease.Lease) -> bool:
        where, records = place.location, store.Records(place.ioctx)
        with self._apart.use(where.cluster_id) as connection:
            ioctx = connection.ioctx(where.pool_id, where.namespace)
            reading = {each: trash.begin_entry(ioctx, each) for each in records.deleting()}
            entries = {image_id: finish() for image_id, finish in reading.items()}
        left_alone = self._under_way(where, entries)
        lost = threading.Event()

        def stopped() -> bool:
            return self._stopping.is_set() or lost.is_set()

        with futures.ThreadPoolExecutor(_REMOVALS, "removal") as removals:
            begun = [
                removals.submit(_remove, ioctx, records, image_id, entry, stopped)
                for image_id, entry in entries.items()
                if image_id not in left_alone
            ]
            while futures.wait(begun, _RENEW_SECONDS).not_done:
                if not lost.is_set() and not _renewed(held):
                    lost.set()
        return all(removal.result() for removal in begun) and not left_alone

    def _under_way(
        self, where: handles.Location, entries: Mapping[str, trash.Entry | None]
    ) -> set[str]:
        """Return the ids of the images that a call may just be moving to the trash.

        They are known by the time since this process saw them first, on its own clock.
        """
        now, before = time.monotonic(), self._moving
        moving = {
            (where, image_id)
            for image_id, entry in entries.items()
            if entry and entry.state is trash.State.MOVING
        }
        elsewhere = {key: since for key, since in before.items() if key[0] != where}
        self._moving = elsewhere | {key: before.get(key, now) for key in moving}
        return {key[1] for key in moving if now - self._moving[key] < self._move_seconds}


def _renewed(held: lease.Lease) -> bool:
    try:
        return held.take()
    except errors.RbdCsiError as error:
        _log.warning("lease lost, removals are broken off", error=str(error))
        return False


def _remove(
    ioctx: connections.Ioctx,
    records: store.Records,
    image_id: str,
    entry: trash.Entry | None,
    stopped: Callable[[], bool],
) -> bool:
    """Remove one image and its record; False if it has to be repeated."""
    if stopped():
        return False
    images = Images(ioctx)
    try:
        with steps.timed():
            if entry and entry.state is trash.State.MOVING:
                trash.finish_move(ioctx, image_id, entry.name)
                steps.done("delete.move", image_id=image_id)
            if entry and entry.state is not trash.State.RESTORING:
                images.remove_trashed(image_id, stopped)
                steps.done("delete.data", image_id=image_id)
            if not images.exists(image_id):
                records.change(image_id, lambda _: None)
                steps.done("delete.forget", image_id=image_id)
    except errors.RbdCsiError as error:
        _log.warning("data not removed, to be repeated", image_id=image_id, error=str(error))
        return False
    return True
