"""DeleteVolume: repeatable, and only what is surely ours and unused."""

import pytest
import rbd

from e2e import volume
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.attachments.records import VolumeRecord
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    "volume_id",
    [
        "no handle at all",
        "v1:local:1::../../etc",
        "v1:local:9999::abc",
        "v1:local:{pool}::123456",
        "v1:local:{pool}:no-namespace:123456",
        "x" * 4000,
    ],
)
def test_what_is_no_volume_is_deleted_already(
    controller: Driver, view: View, volume_id: str
) -> None:
    text = volume_id.format(pool=view.ioctx.get_pool_id())
    volume.delete(controller, Volume(text, volume.mounted()))


def test_an_empty_id_is_refused(controller: Driver) -> None:
    with refused("INVALID_ARGUMENT", "volume_id is missing"):
        volume.delete(controller, Volume("", volume.mounted()))


def test_a_repeat_is_fine_before_and_after_the_data_is_gone(controller: Driver, view: View) -> None:
    made = volume.create(controller, "twice", size=16 * MIB)
    volume.delete(controller, made)
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))
    volume.delete(controller, made)


def test_a_name_is_free_again_at_once(controller: Driver, view: View) -> None:
    first = volume.create(controller, "name", size=16 * MIB)
    volume.delete(controller, first)
    second = volume.create(controller, "name", size=32 * MIB)
    assert second.id != first.id
    volume.delete(controller, first)  # late: it must not harm the second
    assert view.images() == ["csi-name"]
    volume.delete(controller, second)


def test_an_attached_volume_is_kept_and_its_node_named(
    controller: Driver, known_nodes: tuple[str, str], view: View, made: Volume
) -> None:
    volume.attach(controller, made, known_nodes[0])
    with refused("FAILED_PRECONDITION", made.id, "'node-1' (attached since", "detach it there"):
        volume.delete(controller, made)
    assert view.record(made).deleting is None
    volume.detach(controller, made, known_nodes[0])


def test_a_volume_that_somebody_has_locked_is_kept_and_can_be_attached(
    controller: Driver, known_nodes: tuple[str, str], view: View, made: Volume
) -> None:
    with view.image(made, readonly=False) as image:
        (watcher,) = image.watchers_list()
        image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
        with refused("FAILED_PRECONDITION", watcher["addr"], "is not deleted", "rbd status"):
            volume.delete(controller, made)
        image.lock_release()
    assert view.record(made) == VolumeRecord()
    volume.attach(controller, made, known_nodes[0])


def test_the_data_of_a_volume_that_somebody_has_open_stays_until_it_is_closed(
    controller: Driver, view: View
) -> None:
    made, other = (volume.create(controller, name, size=16 * MIB) for name in ("open", "other"))
    with view.image(made, readonly=False) as image:
        image.write(b"before", 0)
        volume.delete(controller, made)
        volume.delete(controller, other)
        view.wait_until_gone(image_id(other))
        image.write(b"after", 8 * MIB)
        assert (image.read(0, 6), image.read(8 * MIB, 5)) == (b"before", b"after")
        assert view.trashed() == [image_id(made)]
    volume.delete(
        controller, volume.create(controller, "other", size=16 * MIB)
    )  # wakes the sweeper
    view.wait_until_gone(image_id(made))


def test_a_volume_whose_image_somebody_removed_is_gone_with_its_record(
    controller: Driver, known_nodes: tuple[str, str], view: View
) -> None:
    made = volume.create(controller, "removed", size=16 * MIB)
    volume.attach(controller, made, known_nodes[0])
    rbd.RBD().remove(view.ioctx, "csi-removed")
    volume.detach(controller, made, known_nodes[0])
    volume.delete(controller, made)
    assert view.record(made) == VolumeRecord()
    assert view.attached_to(known_nodes[0]) == frozenset()


def test_a_volume_is_found_by_its_id_after_an_operator_renamed_its_image(
    controller: Driver, view: View
) -> None:
    made = volume.create(controller, "before", size=16 * MIB)
    rbd.RBD().rename(view.ioctx, "csi-before", "after")
    volume.delete(controller, made)
    assert view.images() == []


def test_an_image_that_is_no_volume_is_never_deleted(controller: Driver, view: View) -> None:
    rbd.RBD().create(view.ioctx, "foreign", 16 * MIB, old_format=False)
    try:
        with rbd.Image(view.ioctx, "foreign", read_only=True) as image:
            place = f"v1:local:{view.ioctx.get_pool_id()}:"
            foreign = Volume(f"{place}:{image.id()}", volume.mounted())
        with refused("FAILED_PRECONDITION", "foreign is no volume of this driver"):
            volume.delete(controller, foreign)
        assert view.images() == ["foreign"]
    finally:
        rbd.RBD().remove(view.ioctx, "foreign")


def test_a_volume_with_a_snapshot_by_hand_stays_until_the_snapshot_is_gone(
    controller: Driver, view: View
) -> None:
    made, other = (volume.create(controller, name, size=16 * MIB) for name in ("snapped", "other"))
    with view.image(made, readonly=False) as image:
        image.write(b"precious", 0)
        image.create_snap("by-hand")
    volume.delete(controller, made)
    volume.delete(controller, other)
    view.wait_until_gone(image_id(other))  # one that cannot go does not keep the others

    assert (view.images(), view.trashed()) == ([f"rbdcsi.deleted.{image_id(made)}"], [])
    with view.image(made, readonly=False) as image:
        image.set_snap("by-hand")
        assert image.read(0, 8) == b"precious"
        image.set_snap(None)
        image.remove_snap("by-hand")
    volume.delete(
        controller, volume.create(controller, "other", size=16 * MIB)
    )  # wakes the sweeper
    view.wait_until_gone(image_id(made))
