"""Snapshots and records that nobody asks for any more, of volumes that are deleted.

A CreateSnapshot that died leaves a reserved name, and perhaps a snapshot. It is repeated as long as
the volume exists. When the volume is being deleted, the repeated call is refused.
"""

import contextlib
import dataclasses

from rbdcsi import errors
from rbdcsi.ceph import snapshots
from rbdcsi.ceph.locations import Location
from rbdcsi.model import ids
from rbdcsi.snapshots.store import Snapshots, StoredSnapshot
from rbdcsi.telemetry import steps


def remove_unfinished(location: Location, records: Snapshots, volume: ids.VolumeHandle) -> bool:
    """Remove snapshots of a deleted volume that CreateSnapshot has not finished.

    The record is changed first: a CreateSnapshot that is still under way finds that, and removes
    its snapshot. The record stays, so a snapshot that comes later is removed by a repeat of this.

    Args:
        location: where the image is.
        records: the cluster's snapshot records.
        volume: the volume; its record says that it is being deleted.

    Returns:
        Whether a snapshot was removed.
    """
    removed = False
    for name in records.being_taken(volume):
        stored = records.named(name)
        if stored is None or stored.record.volume != volume or stored.record.snap_id:
            continue
        abandoned = StoredSnapshot.of(dataclasses.replace(stored.record, abandoned=True))
        if not stored.record.abandoned and not records.swap(name, stored, abandoned):
            continue
        header = location.images.header(volume.image_id)
        snapshot = header.user_snapshot_named(stored.record.snapshot) if header else None
        if snapshot:
            with contextlib.suppress(errors.NotFound):
                snapshots.remove(
                    location.ioctx, volume.image_id, snapshot.snap_id, writers=frozenset()
                )
            steps.done("delete.snapshot", snapshot=stored.record.snapshot)
            removed = True
    return removed


def forget(records: Snapshots, volume: ids.VolumeHandle) -> None:
    """Remove the records of a volume whose image is gone, and its snapshots with it."""
    names = {name for _, name in records.taken(volume=volume)}
    for name in names.union(records.being_taken(volume)):
        stored = records.named(name)
        if stored and stored.record.volume == volume:
            records.swap(name, stored, None)
