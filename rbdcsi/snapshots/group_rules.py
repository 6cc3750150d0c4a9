"""Which volumes can be in one group snapshot. Pure."""

from collections.abc import Mapping, Sequence

from rbdcsi import errors
from rbdcsi.model import ids, image_layout
from rbdcsi.model.snapshot_class import SnapshotParameters
from rbdcsi.snapshots import limit
from rbdcsi.snapshots.create import require_possible
from rbdcsi.snapshots.source import Source


def require_one_pool(
    name: str, volumes: Sequence[ids.VolumeHandle], parameters: SnapshotParameters
) -> None:
    """Refuse volumes that can be in no group snapshot together.

    Args:
        name: of the group snapshot, for messages.
        volumes: at least one.
        parameters: of the class.

    Raises:
        InvalidRequest: one is in another cluster than the class says, or is named twice.
        Refused: they are in several pools.
    """
    for source in volumes:
        require_possible(source, parameters)
    pools = {(each.location.cluster_id, each.location.pool_id) for each in volumes}
    if len(pools) > 1:
        raise errors.Refused(
            f"group snapshot {name!r}: its volumes are in {len(pools)} pools; while one of "
            "them did not answer, the writes of the others would wait, so a group snapshot is of "
            "one pool: take one for the volumes of each pool"
        )
    if len(set(volumes)) < len(volumes):
        raise errors.InvalidRequest("source_volume_ids has a volume twice; name each one once")


def require_lockable(source: Source) -> None:
    """Refuse a volume whose clients cannot be made to wait.

    Raises:
        NotFound: it does not exist, or is being deleted.
        Refused: its image has no exclusive lock, or is being rolled back.
    """
    header = source.existing_header()
    if not header.features & image_layout.BITS["exclusive-lock"]:
        raise errors.Refused(
            f"volume {source.handle}: its image has not the feature exclusive-lock, so its clients "
            "cannot be made to wait, and it can be in no group snapshot; `rbd feature enable` "
            "gives it one while the volume is attached to no node"
        )


def require_room(sources: Mapping[ids.VolumeHandle, Source]) -> None:
    """Refuse a further snapshot of each volume if one of them can have none.

    Raises:
        Exhausted: it has as many as it may have.
    """
    for volume, source in sources.items():
        limit.require_room(source.existing_header(), volume)
