"""Snapshot records in a real omap: found by name, by snapshot and by volume, changed by compare."""

import pytest

from rbdcsi.ceph import omap
from rbdcsi.model import ids
from rbdcsi.snapshots import store
from rbdcsi.snapshots.records import SnapshotRecord
from tests.integration.controller.view import View

VOLUME = ids.VolumeHandle(ids.LocationId("local", 7, "tenant"), "abc1")
OTHER = ids.VolumeHandle(ids.LocationId("local", 7, ""), "abc1")
NAME = "a/name: with\0odd\nletters, ü"


@pytest.fixture
def snapshots(view: View) -> store.Snapshots:
    omap.remove(view.ioctx, store.OBJECT)
    return store.Snapshots(view.ioctx, "local")


def _taken(name: str, volume: ids.VolumeHandle, snap_id: int | None) -> store.StoredSnapshot:
    record = SnapshotRecord(name, str(volume), f"csi-snap-{name}", snap_id)
    return store.StoredSnapshot.of(record)


def _add(snapshots: store.Snapshots, taken: store.StoredSnapshot) -> ids.SnapshotHandle:
    assert snapshots.swap(taken.record.name, None, taken)
    assert taken.record.handle
    return taken.record.handle


def test_a_snapshot_is_reserved_taken_and_removed(snapshots: store.Snapshots) -> None:
    assert snapshots.named(NAME) is None
    reserved = _taken(NAME, VOLUME, None)
    assert snapshots.swap(NAME, None, reserved)
    assert not snapshots.swap(NAME, None, reserved)
    assert snapshots.being_taken(VOLUME) == [NAME]
    assert snapshots.being_taken(OTHER) == []
    assert list(snapshots.all_being_taken()) == [(VOLUME, NAME)]
    assert list(snapshots.taken()) == []
    assert snapshots.named(NAME) == reserved
    taken = _taken(NAME, VOLUME, 18)
    handle = ids.SnapshotHandle(VOLUME, 18)
    assert snapshots.swap(NAME, reserved, taken)
    assert snapshots.being_taken(VOLUME) == []
    assert list(snapshots.all_being_taken()) == []
    assert list(snapshots.taken()) == [(handle, NAME)]
    assert snapshots.of_snapshot(handle) == taken
    assert snapshots.of_snapshot(ids.SnapshotHandle(VOLUME, 19)) is None
    again = _taken(NAME, OTHER, 20)
    assert snapshots.swap(NAME, taken, again)
    assert snapshots.of_snapshot(handle) is None
    assert list(snapshots.taken()) == [(ids.SnapshotHandle(OTHER, 20), NAME)]
    assert snapshots.swap(NAME, snapshots.named(NAME), None)
    assert list(snapshots.taken()) == []
    assert snapshots.named(NAME) is None


def test_snapshots_are_listed_in_the_order_in_which_they_were_taken(
    snapshots: store.Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [_add(snapshots, _taken(f"n{number}", VOLUME, number)) for number in (300, 9, 4000)]
    other = _add(snapshots, _taken("other", OTHER, 77))
    ours.sort(key=lambda handle: handle.snap_id)
    for page in (omap.PAGE, 1, 2):
        monkeypatch.setattr(omap, "PAGE", page)
        assert [handle for handle, _ in snapshots.taken(volume=VOLUME)] == ours
        every = [handle for handle, _ in snapshots.taken()]
        assert every == [other, *ours]
        assert [handle for handle, _ in snapshots.taken(after=ours[0])] == ours[1:]
        assert [handle for handle, _ in snapshots.taken(after=ours[1], volume=VOLUME)] == ours[2:]


def test_a_snapshot_has_one_name(snapshots: store.Snapshots) -> None:
    _add(snapshots, _taken("first", VOLUME, 5))
    assert not snapshots.swap("second", None, _taken("second", VOLUME, 5))
    assert snapshots.named("second") is None
    assert list(snapshots.taken()) == [(ids.SnapshotHandle(VOLUME, 5), "first")]
