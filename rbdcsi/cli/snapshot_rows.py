"""Snapshots as rows of tables and JSON, whose keys do not change."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rbdcsi.ceph.lineage import ImageSnapshot, SnapshotKind
from rbdcsi.cli.output import Row
from rbdcsi.model.ids import SnapshotHandle, VolumeHandle, parse
from rbdcsi.operator.facts import Cluster, NotedSnapshot, Volume
from rbdcsi.snapshots.records import SnapshotRecord

_NANOSECONDS = 1_000_000_000
_STATES = {
    SnapshotKind.GROUP: "of a group",
    SnapshotKind.TRASH: "deleted",  # clones need its data
    SnapshotKind.MIRROR: "of mirroring",
    SnapshotKind.OTHER: "of another kind",
}


def of_cluster(cluster: Cluster, only: VolumeHandle | None = None) -> Iterator[Row]:
    """Yield the rows of a cluster: snapshots of images, then records that have no snapshot.

    Args:
        cluster: the cluster.
        only: the volume that they are of, by any clusterID of the same Ceph; None for all.
    """
    if only is None:
        yield from _rows(cluster)
    elif only.location.cluster_id in {each.cluster_id for each in cluster.of_ceph}:
        for row in _rows(cluster):
            volume = row["volume"]
            if volume and cluster.here(parse(str(volume))) == cluster.here(only):
                yield row


def _rows(cluster: Cluster) -> Iterator[Row]:
    records = cluster.recorded_snapshots()
    for volume in cluster.volumes:
        for handle, snapshot in _snapshots(volume):
            yield of_snapshot(volume, snapshot, records.get(handle))
    existing = {
        cluster.snapshot_here(handle)
        for each in cluster.of_ceph
        for volume in each.volumes
        for handle, _ in _snapshots(volume)
    }
    for noted in cluster.snapshots:
        taken = noted.record.handle if noted.record else None
        if taken is None or cluster.snapshot_here(taken) not in existing:
            yield _without_snapshot(noted)


def _snapshots(volume: Volume) -> Iterator[tuple[SnapshotHandle, ImageSnapshot]]:
    for snapshot in volume.header.snapshots if volume.header else ():
        yield SnapshotHandle(volume.handle, snapshot.snap_id), snapshot


def of_snapshot(volume: Volume, snapshot: ImageSnapshot, record: SnapshotRecord | None) -> Row:
    """Return the row of a snapshot of an image.

    Args:
        volume: the volume of the image.
        snapshot: the snapshot.
        record: the driver's; None if the driver did not take the snapshot.
    """
    created = datetime.fromtimestamp(snapshot.created_ns // _NANOSECONDS, UTC)
    user_state = "ready" if record else "unmanaged"
    return {
        "snapshot": str(SnapshotHandle(volume.handle, snapshot.snap_id)),
        "name": record and record.name,
        "volume": str(volume.handle),
        "pool": str(volume.location),
        "image": volume.image,
        "rbd_snapshot": snapshot.name,
        "size_bytes": snapshot.size,
        "created": created.isoformat(),
        "state": _STATES.get(snapshot.kind, user_state),
        "clones": snapshot.children,
        "frozen": record and record.frozen,
        "volume_deleted": volume.record.deleting,
        "kubernetes": dict(record.kubernetes) if record else {},
        "damage": None,
    }


def _without_snapshot(noted: NotedSnapshot) -> Row:
    """Return the row of a record whose snapshot is not taken yet, or gone, or that is damaged."""
    record = noted.record
    state = "damaged" if record is None else "gone" if record.snap_id else "being taken"
    return {
        "snapshot": record and record.handle and str(record.handle),
        "name": noted.name,
        "volume": record and record.source,
        "pool": None,
        "image": None,
        "rbd_snapshot": record and record.snapshot,
        "size_bytes": None,
        "created": None,
        "state": state,
        "clones": None,
        "frozen": None,
        "volume_deleted": None,
        "kubernetes": dict(record.kubernetes) if record else {},
        "damage": noted.damage,
    }
