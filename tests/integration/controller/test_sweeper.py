"""The data of deleted volumes goes in the background; what an operator put aside stays."""

import struct

import pytest
import rados
import rbd

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB
from rbdcsi.attachments import store
from rbdcsi.ceph import lease, locations
from tests.integration.controller.scrape import Scrape, wait_for
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

LARGE = 1 << 40  # with an object map, librbd goes through its 262,144 bits without a pause
HUGE = 1 << 45  # without an object map, librbd looks at each of 8 million objects


def test_the_data_of_a_deleted_volume_comes_back(controller: Driver, view: View) -> None:
    made = volume.create(controller, "full", size=32 * MIB)
    with view.image(made, readonly=False) as image:
        image.write(b"x" * MIB, 0)
        image.write(b"x" * MIB, 31 * MIB)
    assert [name for name in view.objects_of(image_id(made)) if name.startswith("rbd_data")]
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))


def test_removal_is_cut_short_when_the_driver_stops_and_goes_on_after_the_next_start(
    installation: driver.Installation, view: View
) -> None:
    controller = installation.controller("stopped").start()
    made = volume.create(controller, "huge", size=HUGE, parameters={"imageFeatures": "layering"})
    found = image_id(made)
    with view.image(made, readonly=False) as image:
        image.write(b"first", 0)
    volume.delete(controller, made)
    commands.wait_until(
        lambda: not any(name.startswith("rbd_data") for name in view.objects_of(found)),
        "the removal has passed the first object",
    )
    process = controller.process
    controller.stop()
    assert process
    assert process.returncode == 0
    assert view.trashed() == [found]

    _shorten(view, found)  # nobody waits for 8 million objects
    controller.start()
    view.wait_until_gone(found)
    controller.stop()


def test_volumes_are_created_while_the_data_of_a_large_one_is_removed(
    controller: Driver, view: View
) -> None:
    made = volume.create(controller, "large", size=LARGE)
    found = image_id(made)
    volume.delete(controller, made)

    def has_begun() -> bool:
        with rbd.Image(view.ioctx, image_id=found, read_only=True) as image:
            return bool(list(image.watchers_list()))

    commands.wait_until(has_begun, "the removal has begun")
    others = [volume.create(controller, f"meanwhile-{n}", size=16 * MIB) for n in range(5)]
    assert found in view.trashed(), "nobody waited for the removal"
    for other in others:
        volume.delete(controller, other)
    view.wait_until_gone(found)


def test_an_image_that_an_operator_put_into_the_trash_is_never_removed(
    controller: Driver, view: View
) -> None:
    made, other = (volume.create(controller, name, size=16 * MIB) for name in ("kept", "swept"))
    rbd.RBD().trash_move(view.ioctx, "csi-kept")
    volume.delete(controller, other)
    view.wait_until_gone(image_id(other))  # a whole sweep has been made

    volume.delete(controller, made)  # gone as a volume already: fine
    volume.delete(controller, volume.create(controller, "swept", size=16 * MIB))
    assert image_id(made) in view.trashed()

    rbd.RBD().trash_restore(view.ioctx, image_id(made), "csi-kept")
    assert volume.create(controller, "kept", size=16 * MIB).id == made.id
    volume.delete(controller, made)


def test_a_damaged_record_does_not_keep_the_others_from_being_removed(
    controller: Driver, view: View
) -> None:
    _write_record(view, "damaged", b"{")
    try:
        made = volume.create(controller, "fine", size=16 * MIB)
        volume.delete(controller, made)
        view.wait_until_gone(image_id(made))
    finally:
        _write_record(view, "damaged", None)


def test_two_controllers_that_sweep_at_once_remove_everything_and_both_live(
    installation: driver.Installation, view: View
) -> None:
    both = [installation.controller(f"sweeper-{name}").start() for name in "ab"]
    found = []
    for number in range(60):
        made = volume.create(both[0], f"many-{number}", size=64 * MIB)
        found.append(image_id(made))
        volume.delete(both[number % 2], made)
    for each in found:
        view.wait_until_gone(each)
    assert [controller.process and controller.process.poll() for controller in both] == [None, None]
    for controller in both:
        controller.stop()


def test_nothing_is_removed_while_somebody_else_has_the_lease(
    watched: tuple[Driver, Scrape], view: View
) -> None:
    controller, get = watched
    controller.start()
    made = volume.create(controller, "leased", size=16 * MIB)
    others = lease.Lease(view.ioctx, locations.MARKER, "rbdcsi.sweeper")
    assert others.take()
    volume.delete(controller, made)
    wait_for(get, r'duration_seconds_count{operation="taking lease"} [1-9]')
    assert view.trashed() == [image_id(made)]
    assert others.take()
    others.release()
    view.wait_until_gone(image_id(made))


def _shorten(view: View, found: str) -> None:
    with rados.WriteOpCtx() as operation:
        view.ioctx.set_omap(operation, ("size",), (struct.pack("<Q", MIB),))
        view.ioctx.operate_write_op(operation, f"rbd_header.{found}")


def _write_record(view: View, key: str, value: bytes | None) -> None:
    with rados.WriteOpCtx() as operation:
        if value is None:
            view.ioctx.remove_omap_keys(operation, (key,))
        else:
            view.ioctx.set_omap(operation, (key,), (value,))
        view.ioctx.operate_write_op(operation, store.object_names()[0])
