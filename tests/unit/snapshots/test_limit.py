"""How many snapshots an image may have."""

import pytest

from rbdcsi import errors
from rbdcsi.ceph.lineage import ImageSnapshot, SnapshotKind
from rbdcsi.ceph.objects import Header
from rbdcsi.snapshots import limit


def test_room_is_made_by_deleting_and_not_by_flattening_by_hand() -> None:
    snapshots = tuple(
        ImageSnapshot(number, f"s{number}", 1 << 20, SnapshotKind.USER, 0, 0)
        for number in range(1, limit.MOST + 1)
    )
    limit.require_room(Header(1 << 20, 1 << 22, 61, None, None, None, {}, snapshots[1:]), "v")
    with pytest.raises(errors.Exhausted, match="delete snapshots of it, or copies of it") as raised:
        limit.require_room(Header(1 << 20, 1 << 22, 61, None, None, None, {}, snapshots), "v")
    assert "rbd flatten" not in str(raised.value)
