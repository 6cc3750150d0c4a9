"""Snapshots and parents as older clusters wrote them, and damaged ones.

tests/integration/snapshots/test_header.py reads those that a cluster of today writes.
"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.ceph import lineage, objects
from rbdcsi.ceph.lineage import ImageSnapshot, Parent, Protection, SnapshotKind

NO_SNAPSHOT = (1 << 64) - 2


def _versioned(version: int, oldest: int, content: bytes) -> bytes:
    return struct.pack("<BBI", version, oldest, len(content)) + content


def _old_parent(pool_id: int, image_id: str, snap_id: int) -> bytes:
    content = struct.pack("<q", pool_id) + objects.counted(image_id)
    return _versioned(1, 1, content + struct.pack("<QQ", snap_id, 4096))


def test_a_snapshot_from_before_nautilus() -> None:
    head = struct.pack("<Q", 7) + objects.counted("s") + struct.pack("<QQ", 1 << 20, 61)
    rest = struct.pack("<BQ", 0, 0) + _versioned(1, 1, struct.pack("<I", 0))
    rest += struct.pack("<III", 1700000000, 5, 2) + b"\0"
    encoded = _versioned(8, 1, head + _old_parent(-1, "", NO_SNAPSHOT) + rest)
    assert lineage.decode_snapshot(encoded) == ImageSnapshot(
        7, "s", 1 << 20, SnapshotKind.USER, 1_700_000_000_000_000_005, 2
    )


def test_a_snapshot_of_the_first_version_has_no_time() -> None:
    head = struct.pack("<Q", 7) + objects.counted("s") + struct.pack("<QQ", 1 << 20, 61)
    assert lineage.decode_snapshot(_versioned(1, 1, head)) == ImageSnapshot(
        7, "s", 1 << 20, SnapshotKind.USER, 0, 0
    )


def test_a_kind_of_a_newer_ceph_is_another_kind() -> None:
    head = struct.pack("<Q", 7) + objects.counted("s") + struct.pack("<QBQ", 1 << 20, 0, 0)
    rest = _versioned(1, 1, struct.pack("<I", 77)) + struct.pack("<III", 1, 2, 3) + b"\0"
    snapshot = lineage.decode_snapshot(_versioned(9, 8, head + rest + b"more"))
    assert (snapshot.kind, snapshot.children) == (SnapshotKind.OTHER, 3)


def test_how_much_of_a_snapshot_comes_from_the_parent_is_read_from_either_place() -> None:
    head = struct.pack("<Q", 7) + objects.counted("s") + struct.pack("<Q", 1 << 20)
    rest = struct.pack("<BQ", 2, 0) + _versioned(1, 1, struct.pack("<I", 0))
    rest += struct.pack("<III", 1, 2, 3)
    old = head + struct.pack("<Q", 61) + _old_parent(3, "abc", 9) + rest + b"\0"
    snapshot = lineage.decode_snapshot(_versioned(8, 1, old))
    assert (snapshot.overlap, snapshot.protection) == (4096, Protection.PROTECTED)
    new = head + rest + b"\1" + struct.pack("<Q", 8192)
    assert lineage.decode_snapshot(_versioned(8, 8, new)).overlap == 8192


def test_a_parent_from_before_nautilus() -> None:
    assert lineage.decode_parent(_old_parent(3, "abc", 9)) == Parent(3, "", "abc", 9, 4096)


@pytest.mark.parametrize("encoded", [_old_parent(-1, "", NO_SNAPSHOT), _old_parent(3, "", 9)])
def test_an_empty_parent_is_none(encoded: bytes) -> None:
    assert lineage.decode_parent(encoded) is None


@given(st.binary(max_size=80))
def test_anything_else_is_an_error(damaged: bytes) -> None:
    for decode in (lineage.decode_snapshot, lineage.decode_parent):
        with pytest.raises((ValueError, struct.error)):
            decode(damaged[:14])
