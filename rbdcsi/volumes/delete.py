"""DeleteVolume: takes the image out of the way; `purge` removes the data in the background.

The volume's record says that the volume is being deleted. It is written before the image moves to
the trash and removed after the data is gone. So `purge` sees after any crash which images are left,
and never takes an image that another program put into the trash. A move to the trash that was cut
off is finished by the repeated call, or by `purge`.

An image with snapshots cannot be removed yet, and in the trash its snapshots could not be cloned.
It gets another name, so that the volume's name is free at once; `purge` waits for the snapshots.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import connections, lost_parent, moves, trash
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids, image_names
from rbdcsi.runtime import clock, deadlines
from rbdcsi.telemetry import steps
from rbdcsi.volumes import dependants, spec

_MOVING_SECONDS = 1.0  # for another call to move an image
_POLL_SECONDS = 0.05


class Deleter:
    """Deletes volumes."""

    def __init__(
        self,
        pooled: connections.Connections,
        all_locations: Locations,
        on_deleted: Callable[[ids.LocationId], None],
    ) -> None:
        """Delete volumes of every configured cluster.

        Args:
            pooled: the connections to the clusters.
            all_locations: their locations.
            on_deleted: called with its location after each deletion.
        """
        self._connections = pooled
        self._locations = all_locations
        self._on_deleted = on_deleted

    def delete(self, handle: ids.VolumeHandle, credentials: Credentials | None = None) -> None:
        """Delete the volume; a volume that does not exist is deleted already.

        Raises:
            Refused: the volume is attached, another client has locked its image, no client can open
                the image, or it is unmanaged.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            try:
                location = self._locations.open(connection, handle.location)
            except errors.NotFound:
                return
            self._locations.register(location.id)  # its data is to be removed
            _delete(connection, location, handle)
        self._on_deleted(handle.location)


def _delete(connection: Connection, location: Location, handle: ids.VolumeHandle) -> None:
    image_id, records = handle.image_id, store.Records(location.ioctx)
    # The four reads are under way together.
    reading_record = records.begin_read(image_id)
    reading_entry = trash.begin_entry(location.ioctx, image_id)
    reading_name = location.images.begin_name_of(image_id)
    header = location.images.header(image_id)
    stored, entry, name = reading_record.result(), reading_entry.result(), reading_name.result()
    if header is None:
        records.change(image_id, _without_image, stored)
        return
    cut_off = entry if entry and entry.state is trash.State.MOVING else None
    if name is None and cut_off and stored.record.deleting:
        name = cut_off.name  # the move was cut off after the name was removed
    is_aside = name == image_names.deleted_name(image_id) and stored.record.deleting
    if name is None or is_aside:
        return
    if spec.read(header.metadata, name) is None:
        raise errors.Refused(
            f"image {location.pool}/{name} is no volume of this driver (it has no metadata "
            f"{spec.KEY}) and is not deleted; remove it with `rbd` if that is intended"
        )
    if lost_parent.is_lost(connection, header):  # no client can open it
        rules.begin_delete(stored.record, str(handle), clock.now())  # refuses an attached volume
        if header.snapshots:  # copies of them would read zeros instead of the lost data
            raise lost_parent.unopenable(f"image {location.pool}/{name}")
        lost_parent.detach(location.ioctx, image_id)
        steps.done("delete.detach", volume=str(handle))
    _take_away(location, handle, name, stored, cut_off=cut_off is not None)


def _take_away(
    location: Location,
    handle: ids.VolumeHandle,
    name: str,
    stored: store.StoredRecord,
    *,
    cut_off: bool,
) -> None:
    """Move the image to the trash, or rename it, or finish either; record it before."""
    image_id, records, now = handle.image_id, store.Records(location.ioctx), clock.now()

    def begin_delete(record: VolumeRecord) -> VolumeRecord:
        return rules.begin_delete(record, str(handle), now)

    begin_delete(stored.record)  # refuses an attached volume before its lock is asked for
    with contextlib.ExitStack() as locking:
        if not cut_off:
            try:
                image = locking.enter_context(moves.movable(location.ioctx, image_id, name))
            except errors.NotFound as error:
                if _is_in_place(location, image_id, name):
                    raise lost_parent.unopenable(f"image {location.pool}/{name}") from error
                return
            except errors.Refused as error:
                if _is_taken_away(location, image_id):
                    return
                raise _in_use(location, handle, name) from error
        # Of calls at the same time, only the one that has the lock writes the record.
        records.change(image_id, begin_delete, stored)
        steps.done("delete.record", volume=str(handle))
        if cut_off:
            trash.finish_move(location.ioctx, image_id, name)
        else:
            _move(location, handle, name, image)
    steps.done("delete.trash", volume=str(handle))


def _move(
    location: Location, handle: ids.VolumeHandle, name: str, image: moves.MovableImage
) -> None:
    image_id, records = handle.image_id, store.Records(location.ioctx)
    # It is read after the record was written: a CreateSnapshot that did not see the record has
    # taken its snapshot by now.
    header = location.images.header(image_id)
    try:
        if header and dependants.needs_name(header):
            image.set_aside(image_names.deleted_name(image_id))
        else:
            image.to_trash()
    except errors.NotFound as error:  # it is mirrored, and another call was first
        if _is_in_place(location, image_id, name):
            records.change(image_id, _not_deleting)
            raise lost_parent.unopenable(f"image {location.pool}/{name}") from error
    except errors.Refused as error:  # it is mirrored, and locked
        records.change(image_id, _not_deleting)
        raise _in_use(location, handle, name) from error


def _is_in_place(location: Location, image_id: str, name: str) -> bool:
    """Return whether the image has its name and header, though librbd did not find it."""
    return location.images.name_of(image_id) == name and location.images.exists(image_id)


def _is_taken_away(location: Location, image_id: str) -> bool:
    """Return whether another DeleteVolume, which has the image's lock, moves it.

    Raises:
        Busy: it has not finished.
    """
    aside, ends_at = image_names.deleted_name(image_id), time.monotonic() + _MOVING_SECONDS
    while time.monotonic() < ends_at:
        if location.images.name_of(image_id) in {None, aside}:
            return True
        time.sleep(deadlines.remaining(_POLL_SECONDS))
    record = store.Records(location.ioctx).get(image_id)
    if record.deleting:
        raise errors.Busy(
            f"image {image_id} is being deleted since {record.deleting} by another call, or "
            "another client has locked it; try again"
        )
    return False


def _in_use(location: Location, handle: ids.VolumeHandle, name: str) -> errors.Refused:
    watchers = (
        ", ".join(sorted(location.images.watchers(handle.image_id))) or "a client without a watch"
    )
    return errors.Refused(
        f"volume {handle}: image {location.pool}/{name} is locked by {watchers} and is not "
        f"deleted; end what uses it (`rbd status {location.pool}/{name}`)"
    )


def _not_deleting(record: VolumeRecord) -> VolumeRecord:
    return dataclasses.replace(record, deleting=None)


def _without_image(record: VolumeRecord) -> VolumeRecord | None:
    """Remove the record of an image that another program removed, unless `purge` works on it."""
    stays = record.attachments or record.deleting or record == VolumeRecord()
    return record if stays else None
