"""DeleteVolume: to the trash at once; the data goes in the background (`sweep`).

The volume's record says that it is being deleted. It is written before the image moves to the trash
and removed after the data is gone, so a sweeper finds what is left to do after any crash, and never
takes an image that somebody else put into the trash.
"""

import dataclasses
from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments import records, rules, store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec


class Deleter:
    """Deletes volumes."""

    def __init__(
        self,
        pooled: connections.Connections,
        known: locations.Locations,
        deleted: Callable[[], None],
    ) -> None:
        """Delete by these connections, and tell `deleted` after each time."""
        self._connections = pooled
        self._locations = known
        self._deleted = deleted

    def delete(self, handle: ids.VolumeHandle, credentials: Credentials | None = None) -> None:
        """Delete the volume; one that is gone is fine.

        Raises:
            Refused: it is attached, somebody has locked it, or it is no volume of this driver.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            try:
                place = self._locations.open(connection, handle.location)
            except errors.NotFound:
                return
            _delete(place, handle)
        self._deleted()


def _delete(place: locations.Location, handle: ids.VolumeHandle) -> None:
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


def _in_use(place: locations.Location, handle: ids.VolumeHandle, name: str) -> errors.Refused:
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
