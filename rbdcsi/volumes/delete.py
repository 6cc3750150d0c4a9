"""DeleteVolume: to the trash at once; the data goes in the background.

The volume's record says that it is being deleted. It is written before the image moves to the trash
and removed after the data is gone, so a sweeper finds what is left to do after any crash, and never
takes an image that somebody else put into the trash.
"""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from rbdcsi import clock, errors, handles, steps
from rbdcsi.attachments import records, rules, store
from rbdcsi.ceph import connections
from rbdcsi.ceph.images import Images
from rbdcsi.config import Credentials
from rbdcsi.volumes import locations, spec

_log = structlog.get_logger()

_SWEEP_SECONDS = 60.0
_STOP_SECONDS = 5.0  # a removal that is cut off is finished after the next start
_REMOVALS = 2  # images whose data is removed at the same time


class Deleter:
    """Deletes volumes, and sweeps up what was deleted, in a thread of its own."""

    def __init__(self, pooled: connections.Connections, known: locations.Locations) -> None:
        self._connections = pooled
        self._locations = known
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

    def delete(self, handle: handles.VolumeHandle, credentials: Credentials | None = None) -> None:
        """Delete the volume; one that is gone is fine.

        Raises:
            Refused: it is attached, somebody has locked it, or it is no volume of this driver.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            try:
                place = self._locations.of(connection, handle.location)
            except errors.NotFound:
                return
            _delete(place, handle)
        self._wake.set()

    def _sweep_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                self.sweep()
            except errors.RbdCsiError as error:
                _log.warning("sweep failed, to be repeated", error=str(error))
            self._wake.wait(_SWEEP_SECONDS)
            self._wake.clear()

    def sweep(self) -> None:
        """Remove the data of every volume that was deleted, at every location."""
        for place in self._locations.all():
            try:
                self._sweep_at(place)
            except errors.RbdCsiError as error:
                _log.warning(
                    "sweep of a pool failed, to be repeated", pool=place.pool, error=str(error)
                )

    def _sweep_at(self, place: locations.Place) -> None:
        images, held = Images(place.ioctx), store.Records(place.ioctx)
        deleted = held.deleting()
        trashed = images.trashed() if deleted else frozenset()
        with ThreadPoolExecutor(_REMOVALS, "removal") as removals:
            for image_id in deleted:
                removals.submit(self._remove, images, held, image_id, image_id in trashed)

    def _remove(self, images: Images, held: store.Records, image_id: str, trashed: bool) -> None:
        if self._stopping.is_set():
            return
        try:
            if trashed:
                images.remove_trashed(image_id, self._stopping.is_set)
                steps.done("delete.data", image_id=image_id)
            if not images.exists(image_id):
                held.change(image_id, lambda _: None)
                steps.done("delete.forget", image_id=image_id)
        except errors.RbdCsiError as error:
            _log.warning("data not removed, to be repeated", image_id=image_id, error=str(error))


def _delete(place: locations.Place, handle: handles.VolumeHandle) -> None:
    images, held = Images(place.ioctx), store.Records(place.ioctx)
    name, header = images.name_of(handle.image_id), images.header(handle.image_id)
    if header is None:
        held.change(handle.image_id, _of_no_image)
    if name is None or header is None:
        return
    if spec.read(header.metadata, name) is None:
        raise errors.Refused(
            f"image {place.pool}/{name} is no volume of this driver (it has no metadata "
            f"{spec.KEY}) and is not deleted; remove it with `rbd` if that is meant"
        )
    now = clock.now()

    def mark() -> None:
        held.change(handle.image_id, lambda record: rules.begin_delete(record, str(handle), now))

    mark()
    steps.done("delete.record", volume=str(handle))
    try:
        images.trash(name)
    except errors.NotFound:
        return
    except errors.Refused as error:
        held.change(handle.image_id, _keep)
        if images.name_of(handle.image_id) is not None:
            raise _in_use(place, handle, name) from error
    # Of two calls at once, the one that was refused may have taken away the other's mark.
    mark()
    steps.done("delete.trash", volume=str(handle))


def _in_use(place: locations.Place, handle: handles.VolumeHandle, name: str) -> errors.Refused:
    watchers = ", ".join(sorted(Images(place.ioctx).watchers(name))) or "somebody"
    return errors.Refused(
        f"volume {handle}: image {place.pool}/{name} is locked by {watchers} and is not deleted; "
        f"end what uses it (`rbd status {place.pool}/{name}`)"
    )


def _of_no_image(record: records.VolumeRecord) -> records.VolumeRecord | None:
    """Drop the record of an image that somebody else removed, unless the sweeper is at it."""
    stays = record.attachments or record.deleting or record == records.VolumeRecord()
    return record if stays else None


def _keep(record: records.VolumeRecord) -> records.VolumeRecord:
    return dataclasses.replace(record, deleting=None)
