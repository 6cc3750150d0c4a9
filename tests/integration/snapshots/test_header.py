"""Snapshots and parent in an image's header are read as librbd reads them."""

import dataclasses
import struct
from collections.abc import Iterator

import pytest
import rados
import rbd

from e2e.clusters import Cluster
from rbdcsi.ceph import objects
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import ImageSnapshot, Parent, Protection, SnapshotKind
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

MIB = 1 << 20
MANY = 2500  # snapshots, which one read of the header does not hold


@pytest.fixture
def source(view: View) -> Iterator[rbd.Image]:
    """Give an open image, which is removed with its snapshots."""
    rbd.RBD().create(view.ioctx, "source", 8 * MIB, old_format=False, features=61)
    with rbd.Image(view.ioctx, "source") as image:
        yield image
        for snapshot in list(image.list_snaps()):
            image.remove_snap_by_id(snapshot["id"])
    rbd.RBD().remove(view.ioctx, "source")


def _header(view: View, image: rbd.Image) -> objects.Header:
    header = Images(view.ioctx).header(image.id())
    assert header
    return header


def _as_librbd_lists(image: rbd.Image) -> list[ImageSnapshot]:
    """Return the snapshots by librbd; its bindings give the time in whole seconds."""
    return [
        ImageSnapshot(
            each["id"],
            each["name"],
            each["size"],
            SnapshotKind(each["namespace"]),
            int(image.get_snap_timestamp(each["id"]).timestamp()),
            0,
            _protection(image, each["name"]) if each["namespace"] == 0 else Protection.NONE,
        )
        for each in sorted(image.list_snaps(), key=lambda snapshot: snapshot["id"])
    ]


def _protection(image: rbd.Image, name: str) -> Protection:
    return Protection.PROTECTED if image.is_protected_snap(name) else Protection.NONE


def _in_seconds(snapshots: tuple[ImageSnapshot, ...], children: dict[str, int]) -> list[object]:
    """Return the snapshots with their time as librbd's bindings give it, and check the children."""
    assert {each.name: each.children for each in snapshots if each.children} == children
    return [
        dataclasses.replace(s, created_ns=s.created_ns // 1_000_000_000, children=0)
        for s in snapshots
    ]


def test_snapshots_of_users_and_of_a_group(view: View, source: rbd.Image) -> None:
    assert _header(view, source).snapshots == ()
    source.create_snap("first")
    source.resize(12 * MIB)
    source.create_snap("zweiter-Schnappschuß")
    source.protect_snap("first")
    rbd.RBD().group_create(view.ioctx, "group")
    group = rbd.Group(view.ioctx, "group")
    group.add_image(view.ioctx, "source")
    group.create_snap("of-group")
    snapshots = _header(view, source).snapshots
    assert [each.kind for each in snapshots] == [
        *(SnapshotKind.USER, SnapshotKind.USER, SnapshotKind.GROUP)
    ]
    assert [each.size for each in snapshots] == [8 * MIB, 12 * MIB, 12 * MIB]
    assert _in_seconds(snapshots, {}) == _as_librbd_lists(source)
    source.unprotect_snap("first")
    group.remove_snap("of-group")
    group.remove_image(view.ioctx, "source")
    rbd.RBD().group_remove(view.ioctx, "group")


def test_a_clone_and_the_removed_snapshot_that_it_needs(
    cluster: Cluster, view: View, pool: str, source: rbd.Image
) -> None:
    source.create_snap("base")
    names = (f"{pool}/source@base", f"{pool}/clone")
    # without deep-flatten, which would copy for the clone's snapshots, too
    cluster.rbd("clone", "--rbd-default-clone-format", "2", "--image-feature", "layering", *names)
    (base,) = _header(view, source).snapshots
    with rbd.Image(view.ioctx, "clone") as clone:
        parent = Parent(view.ioctx.get_pool_id(), "", source.id(), base.snap_id, 8 * MIB)
        assert _header(view, clone).parent == parent
        assert _in_seconds((base,), {"base": 1}) == _as_librbd_lists(source)
        source.remove_snap("base")
        (trashed,) = _header(view, source).snapshots
        assert (trashed.snap_id, trashed.kind) == (base.snap_id, SnapshotKind.TRASH)
        assert _in_seconds((trashed,), {trashed.name: 1}) == _as_librbd_lists(source)
        clone.resize(4 * MIB)
        assert _header(view, clone).parent == Parent(
            parent.pool_id, "", source.id(), base.snap_id, 4 * MIB
        )
        clone.create_snap("needs-parent")
        (needing,) = _header(view, clone).snapshots
        clone.set_snap("needs-parent")
        assert needing.overlap == clone.overlap() == 4 * MIB
        clone.set_snap(None)
        clone.flatten()
        (needing,) = _header(view, clone).snapshots
        assert needing.overlap == 4 * MIB
        assert _header(view, clone).parent == Parent(
            parent.pool_id, "", source.id(), base.snap_id, None
        )
        clone.remove_snap("needs-parent")
    rbd.RBD().remove(view.ioctx, "clone")
    assert _header(view, source).snapshots == ()


def test_an_image_with_thousands_of_snapshots_is_read_whole(view: View) -> None:
    rbd.RBD().create(
        view.ioctx, "many", 8 * MIB, old_format=False, stripe_unit=64 << 10, stripe_count=4
    )
    image_id = Images(view.ioctx).id_of("many")
    for snap_id in range(1, MANY + 1):  # by hand: the monitors need longer
        with rados.WriteOpCtx() as op:
            argument = objects.counted(f"snapshot-{snap_id}") + struct.pack("<Q", snap_id)
            op.execute("rbd", "snapshot_add", argument)
            view.ioctx.operate_write_op(op, f"{objects.HEADER}{image_id}")
    header = Images(view.ioctx).header(str(image_id))
    assert header
    assert [each.snap_id for each in header.snapshots] == list(range(1, MANY + 1))
    assert (header.stripe_unit, header.stripe_count) == (65536, 4)  # keys behind the snapshots'
    with rbd.Image(view.ioctx, "many") as image:
        assert _as_librbd_lists(image) == _in_seconds(header.snapshots, {})
    for snap_id in range(1, MANY + 1):
        with rados.WriteOpCtx() as op:
            op.execute("rbd", "snapshot_remove", struct.pack("<Q", snap_id))
            view.ioctx.operate_write_op(op, f"{objects.HEADER}{image_id}")
    rbd.RBD().remove(view.ioctx, "many")
