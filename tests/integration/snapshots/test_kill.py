"""The controller dies right after a step about snapshots; the same call finishes the work."""

import contextlib
import struct
from collections.abc import Callable

import grpc
import pytest
import rados
import rbd

from e2e import snapshots, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.ceph import objects
from rbdcsi.ceph.images import Images
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left", "stopped_after")


def _die(controller: Driver, step: str, call: Callable[[], object]) -> None:
    """Make the call at a controller that dies right after the step."""
    controller.stop()
    controller.start(kill_after=step)
    with refused("UNAVAILABLE"):
        call()
    controller.wait_for_death()
    controller.stop()


def _die_soon(controller: Driver, step: str, call: Callable[[], object]) -> None:
    """Make the call at a controller that dies after the step, before the answer or after it."""
    controller.stop()
    controller.start(kill_after=step)
    with contextlib.suppress(grpc.RpcError):
        call()
    controller.wait_for_death()
    controller.stop()


def _names(view: View, made: Volume) -> list[str]:
    with view.image(made) as image:
        return [each["name"] for each in image.list_snaps()]


@pytest.mark.parametrize("step", ["snapshot.reserve", "snapshot.take", "snapshot.record"])
def test_a_snapshot_is_taken_once(mortal: Driver, view: View, step: str) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    _die(mortal, step, lambda: snapshots.create(mortal, "s", made.id))
    taken = snapshots.create(mortal.start(), "s", made.id)
    assert snapshots.create(mortal, "s", made.id) == taken
    assert _names(view, made) == ["csi-snap-s"]
    assert list(snapshots.listed(mortal)) == [taken]
    snapshots.delete(mortal, taken.snapshot_id)
    volume.delete(mortal, made)
    view.wait_until_gone(image_id(made))


def test_a_snapshot_that_was_cut_off_twice_is_taken_once(mortal: Driver, view: View) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    _die(mortal, "snapshot.take", lambda: snapshots.create(mortal, "s", made.id))
    _die(mortal, "snapshot.remove_earlier", lambda: snapshots.create(mortal, "s", made.id))
    assert _names(view, made) == []
    taken = snapshots.create(mortal.start(), "s", made.id)
    assert _names(view, made) == ["csi-snap-s"]
    assert list(snapshots.listed(mortal)) == [taken]
    snapshots.delete(mortal, taken.snapshot_id)
    volume.delete(mortal, made)
    view.wait_until_gone(image_id(made))


@pytest.mark.parametrize("step", ["snapshot.remove", "snapshot.forget"])
def test_a_deletion_is_finished(mortal: Driver, view: View, step: str) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    taken = snapshots.create(mortal, "s", made.id)
    _die(mortal, step, lambda: snapshots.delete(mortal, taken.snapshot_id))
    mortal.start()
    assert list(snapshots.listed(mortal)) == []
    snapshots.delete(mortal, taken.snapshot_id)
    assert _names(view, made) == []
    volume.delete(mortal, made)
    view.wait_until_gone(image_id(made))


@pytest.mark.parametrize("step", ["snapshot.reserve", "snapshot.take"])
def test_a_snapshot_that_nobody_asks_for_again_goes_with_its_volume(
    mortal: Driver, view: View, step: str
) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    _die(mortal, step, lambda: snapshots.create(mortal, "s", made.id))
    volume.delete(mortal.start(), made)
    view.wait_until_gone(image_id(made))
    with refused("NOT_FOUND"):
        snapshots.create(mortal, "s", made.id)


def test_a_snapshot_that_was_cut_off_goes_though_its_removal_is_cut_off_too(
    mortal: Driver, view: View
) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    _die(mortal, "snapshot.take", lambda: snapshots.create(mortal, "s", made.id))
    _die_soon(mortal, "delete.snapshot", lambda: volume.delete(mortal, made))
    volume.delete(mortal.start(), made)
    view.wait_until_gone(image_id(made))
    assert list(snapshots.listed(mortal)) == []


@pytest.mark.parametrize("step", ["delete.record", "delete.trash"])
def test_a_volume_with_a_snapshot_is_deleted_when_the_call_is_repeated(
    mortal: Driver, view: View, step: str
) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    taken = snapshots.create(mortal, "s", made.id)
    _die(mortal, step, lambda: volume.delete(mortal, made))
    volume.delete(mortal.start(), made)
    assert view.images() == [f"rbdcsi.deleted.{image_id(made)}"]
    snapshots.delete(mortal, taken.snapshot_id)
    view.wait_until_gone(image_id(made))


@pytest.mark.parametrize(
    "step", ["snapshot.forget", "delete.aside", "delete.data", "delete.forget"]
)
def test_a_volume_that_waited_goes_though_nobody_calls_again(
    mortal: Driver, view: View, step: str
) -> None:
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    taken = snapshots.create(mortal, "s", made.id)
    volume.delete(mortal, made)
    _die_soon(mortal, step, lambda: snapshots.delete(mortal, taken.snapshot_id))
    mortal.start()
    view.wait_until_gone(image_id(made))


@pytest.mark.parametrize("step", ["", "delete.left_behind"])
def test_a_removed_snapshot_that_librbd_left_goes_with_its_volume(
    cluster: Cluster, mortal: Driver, view: View, pool: str, step: str
) -> None:
    """librbd has detached the last clone, and died before it removed the snapshot."""
    made = volume.create(mortal.start(), "volume", size=16 * MIB)
    with view.image(made, readonly=False) as image:
        image.create_snap("s")
        (snapshot,) = image.list_snaps()
        names = (f"{pool}/csi-volume@s", f"{pool}/clone")
        cluster.rbd("clone", "--rbd-default-clone-format", "2", *names)
        image.remove_snap("s")
    child = struct.pack("<q", view.ioctx.get_pool_id())
    child += objects.counted(Images(view.ioctx).id_of("clone") or "") + objects.counted("")
    spec = struct.pack("<BBI", 2, 1, len(child)) + child  # cls::rbd::ChildImageSpec
    with rados.WriteOpCtx() as op:
        op.execute("rbd", "child_detach", struct.pack("<Q", snapshot["id"]) + spec)
        view.ioctx.operate_write_op(op, objects.HEADER + image_id(made))
    if step:
        _die_soon(mortal, step, lambda: volume.delete(mortal, made))
        mortal.start()
    volume.delete(mortal, made)
    view.wait_until_gone(image_id(made))
    rbd.RBD().remove(view.ioctx, "clone")
