"""Who may resize an image or roll it back, and which calls that refuses: pure functions.

Each is applied by compare-and-swap, as those of rules.py.
"""

import dataclasses
from collections.abc import Collection

from rbdcsi import errors
from rbdcsi.attachments.records import Growth, Rollback, VolumeRecord
from rbdcsi.model import ids


def require_existing(record: VolumeRecord, volume: str) -> None:
    """Refuse to use a volume that is being deleted.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.

    Raises:
        NotFound: it is.
    """
    if record.deleting:
        raise errors.NotFound(f"volume {volume} is being deleted since {record.deleting}")


def require_whole(record: VolumeRecord, volume: str) -> None:
    """Refuse to use a volume whose image is being rolled back.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.

    Raises:
        Refused: it is, or a rollback was cut off.
    """
    if rollback := record.rollback:
        raise errors.Refused(
            f"volume {volume} is being rolled back to snapshot {rollback.snapshot!r} since "
            f"{rollback.since} by client {rollback.client}; until that has ended, it may hold a "
            "mix of old and new data. If `rbdcsi volumes rollback` was cut off, run it again: "
            f"`{command(volume, rollback.snap_id)}`"
        )


def require_detached(record: VolumeRecord, volume: str) -> None:
    """Refuse to change a volume that a node may use.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.

    Raises:
        Refused: the volume is attached.
    """
    if record.attachments:
        nodes = ", ".join(
            f"{node!r} ({attachment.state.value} since {attachment.since})"
            for node, attachment in sorted(record.attachments.items())
        )
        raise errors.Refused(f"volume {volume} is attached to {nodes}; detach it there first")


def command(volume: str, snap_id: int) -> str:
    """Return the command that rolls the volume back to a snapshot."""
    snapshot = ids.SnapshotHandle(ids.parse(volume), snap_id)
    return f"rbdcsi volumes rollback {volume} {snapshot}"


def begin_grow(
    record: VolumeRecord, volume: str, growth: Growth, image_size: int, ended: Collection[str]
) -> VolumeRecord:
    """Let one client resize the image (CSI: ControllerExpandVolume).

    Two clients at once may shrink the image: librbd compares the new size with one that it has read
    before (Ceph 16, seen with six clients).

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        growth: the one that begins.
        image_size: the size of the image in bytes, read before.
        ended: clients that cannot change the image any more.

    Raises:
        NotFound: the volume is being deleted.
        Refused: its image is being rolled back.
        Busy: another client has not finished.
    """
    require_existing(record, volume)
    require_whole(record, volume)
    other = unfinished_growth(record, growth.client, image_size)
    if other and other.client not in ended:
        raise _being_grown(other, volume)
    return dataclasses.replace(record, growth=growth)


def unfinished_growth(record: VolumeRecord, client: str, image_size: int) -> Growth | None:
    """Return the growth that another client may be at, None if there is none.

    Args:
        record: the volume's.
        client: the one that asks.
        image_size: the size of the image in bytes, read before.
    """
    growth = record.growth
    is_others = growth is not None and growth.client != client and growth.size > image_size
    return growth if is_others else None


def _being_grown(growth: Growth, volume: str) -> errors.Busy:
    return errors.Busy(
        f"volume {volume} is being grown to {growth.size} bytes by client {growth.client} since "
        f"{growth.since}; repeat the call when that has ended"
    )


def begin_rollback(
    record: VolumeRecord, volume: str, rollback: Rollback, ended: Collection[str]
) -> VolumeRecord:
    """Let one client roll the image back; every other use is refused from now on.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        rollback: the one that begins.
        ended: clients that cannot change the image any more.

    Raises:
        NotFound: the volume is being deleted.
        Refused: the volume is attached.
        Busy: another client rolls it back, or grows it.
    """
    require_existing(record, volume)
    require_detached(record, volume)
    growing = unfinished_growth(record, rollback.client, rollback.size)
    if growing and growing.client not in ended:
        raise _being_grown(growing, volume)
    other = record.rollback
    if other and other.client not in {rollback.client, *ended}:
        raise errors.Busy(
            f"volume {volume} is being rolled back to snapshot {other.snapshot!r} by client "
            f"{other.client} since {other.since}; wait until that has ended"
        )
    size = max(rollback.size, other.size) if other else rollback.size
    return dataclasses.replace(
        record,
        rollback=dataclasses.replace(rollback, size=size),
        # It is finished, and would look as if it were not while the image is smaller.
        growth=None,
        rollbacks=record.rollbacks + 1,
    )


def end_rollback(
    record: VolumeRecord, client: str, earlier: Rollback | None = None
) -> VolumeRecord:
    """Note that the client's rollback has ended, or that it has not changed the image.

    Args:
        record: the volume's.
        client: the one that rolled the image back.
        earlier: the rollback that was cut off before, and still is.
    """
    if record.rollback is None or record.rollback.client != client:
        return record
    return dataclasses.replace(record, rollback=earlier)
