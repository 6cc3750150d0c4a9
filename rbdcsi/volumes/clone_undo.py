"""Removes what an attempt to make a clone left, by its temporary names."""

import contextlib

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import changes, cloning, locations, snapshots
from rbdcsi.model import ids
from rbdcsi.volumes import clone_notes


def undo(
    source: locations.Location | None,
    volume: ids.VolumeHandle,
    target: locations.Location,
    token: str,
) -> None:
    """Remove what an attempt made under its temporary names; a repeat changes nothing.

    Args:
        source: the source's location, None if no snapshot was taken there.
        volume: the source.
        target: the location of the clone.
        token: of the attempt.

    Raises:
        Refused: a client has the clone open.
        Busy: a node that has the source mapped does not answer.
    """
    name = clone_notes.name(token)
    with changes.turn(volume.image_id):  # librbd may open the source
        cloning.remove_unfinished(target.ioctx, name)
    header = source.images.header(volume.image_id) if source else None
    snapshot = header.user_snapshot_named(name) if header else None
    if source and snapshot:
        writers = store.Records(source.ioctx).get(volume.image_id).writers()
        with contextlib.suppress(errors.NotFound):
            snapshots.remove(source.ioctx, volume.image_id, snapshot.snap_id, writers)
