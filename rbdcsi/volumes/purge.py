"""Removes the data of deleted volumes, in the background of a controller.

What is left to do stands in the volumes' records, so any controller carries on after any crash.
Two must not remove one image at the same time: librbd then ends its process by an assertion
(TrimRequest: the exclusive lock was lost). So a lease lets one controller sweep a location.
"""

import threading
from collections.abc import Callable
from concurrent import futures

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, lease, locations
from rbdcsi.ceph.images import Images
from rbdcsi.telemetry import steps

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_RETRY_SECONDS = 5.0  # when something is left to do
_RENEW_SECONDS = lease.SECONDS / 3
_STOP_SECONDS = 5.0  # a removal that is cut off is finished after the next start
_REMOVALS = 2  # images whose data is removed at the same time


class Sweeper:
    """Sweeps up what was deleted, in a thread of its own."""

    def __init__(self, pooled: connections.Connections, apart: connections.Connections) -> None:
        """Remove data by the connections `apart`, which nobody else uses.

        librbd goes through a large image's object map in the thread that ends every operation of
        its connection: a volume that is created by the same one waits until that is done.
        """
        self._locations = locations.Locations(pooled)
        self._apart = apart
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
        while not self._stopping.is_set():
            done = False
            try:
                done = self._sweep()
            except Exception as error:  # noqa: BLE001  the thread must go on, and nobody else tells
                _log.warning("sweep failed, to be repeated", error=str(error), exc_info=error)
            self._wake.wait(_PAUSE_SECONDS if done else _RETRY_SECONDS)
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

    def _sweep_at(self, place: locations.Location) -> bool:
        if not store.Records(place.ioctx).deleting():
            return True
        held = lease.Lease(place.ioctx, locations.MARKER, "rbdcsi.sweeper")
        if not held.take():
            return False
        try:
            return self._remove_all(place, held)
        finally:
            held.give_back()

    def _remove_all(self, place: locations.Location, held: lease.Lease) -> bool:
        where, records = place.id, store.Records(place.ioctx)
        with self._apart.use(where.cluster_id) as connection:
            images = Images(connection.ioctx(where.pool_id, where.namespace))
            deleted, trashed = records.deleting(), images.trashed()
        lost = threading.Event()

        def stopped() -> bool:
            return self._stopping.is_set() or lost.is_set()

        with futures.ThreadPoolExecutor(_REMOVALS, "removal") as removals:
            begun = [
                removals.submit(_remove, images, records, image_id, image_id in trashed, stopped)
                for image_id in deleted
            ]
            while futures.wait(begun, _RENEW_SECONDS).not_done:
                if not lost.is_set() and not _renewed(held):
                    lost.set()
        return all(removal.result() for removal in begun)


def _renewed(held: lease.Lease) -> bool:
    try:
        return held.take()
    except errors.RbdCsiError as error:
        _log.warning("lease lost, removals are broken off", error=str(error))
        return False


def _remove(
    images: Images,
    records: store.Records,
    image_id: str,
    trashed: bool,
    stopped: Callable[[], bool],
) -> bool:
    """Remove one image and its record; False if it has to be repeated."""
    if stopped():
        return False
    try:
        with steps.timed():
            if trashed:
                images.remove_trashed(image_id, stopped)
                steps.done("delete.data", image_id=image_id)
            if not images.exists(image_id):
                records.change(image_id, lambda _: None)
                steps.done("delete.forget", image_id=image_id)
    except errors.RbdCsiError as error:
        _log.warning("data not removed, to be repeated", image_id=image_id, error=str(error))
        return False
    return True
