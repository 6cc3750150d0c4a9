"""The controller dies right after any of its steps; the same call again finishes the work."""

import contextlib
from collections.abc import Callable, Iterator

import grpc
import pytest
import rbd

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import CLUSTER_ID, Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.ceph import locations, omap
from rbdcsi.model import ids
from tests import dying
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def mortal(installation: driver.Installation) -> Driver:
    """Give a controller that is not running."""
    return installation.controller("mortal")


@pytest.fixture(autouse=True)
def stopped_after(mortal: Driver, nothing_left: None) -> Iterator[None]:
    assert nothing_left is None  # it looks when the process is gone
    yield
    mortal.stop()


@pytest.fixture(scope="module")
def node_id(installation: driver.Installation, view: View) -> str:
    """Give a node that may hold one volume: what it holds is counted after it is recorded."""
    node = installation.node("node-l", "--max-volumes", "1").start()
    wait_until_registered(view.ioctx, node)
    node.stop()
    return "node-l"


def test_a_create_killed_after_its_image_is_completed(mortal: Driver, view: View) -> None:
    _die(mortal, "create.image", lambda: _create(mortal))
    assert view.images() == ["csi-volume"]

    made = _create(mortal.start())
    assert view.images() == ["csi-volume"]
    assert _create(mortal) == made
    _finish(mortal, view, made)


def test_a_create_killed_after_its_metadata_is_recognised(mortal: Driver, view: View) -> None:
    _die(mortal, "create.metadata", lambda: _create(mortal))
    made = _create(mortal.start())
    assert view.images() == ["csi-volume"]
    _finish(mortal, view, made)


def test_a_create_killed_while_completing_another_is_recognised(mortal: Driver, view: View) -> None:
    _die(mortal, "create.image", lambda: _create(mortal))
    _die(mortal, "create.adopted", lambda: _create(mortal))
    made = _create(mortal.start())
    assert view.images() == ["csi-volume"]
    _finish(mortal, view, made)


def test_an_attach_killed_on_its_way_is_the_same_attachment_when_repeated(
    mortal: Driver, view: View, node_id: str
) -> None:
    made = _create(mortal.start())
    mortal.stop()
    _die(mortal, "attach.record", lambda: volume.attach(mortal, made, node_id))

    volume.attach(mortal.start(), made, node_id)
    assert made.publish_context == {"generation": "1"}
    assert view.record(made).attachments.keys() == {node_id}
    assert view.attached_to(node_id) == {image_id(made)}
    volume.detach(mortal, made, node_id)
    assert view.attached_to(node_id) == frozenset()
    _finish(mortal, view, made)


def test_an_attach_killed_before_it_was_counted_is_no_way_past_the_limit(
    mortal: Driver, view: View, node_id: str
) -> None:
    mortal.start()
    first, second = (_create(mortal, name) for name in ("first", "second"))
    volume.attach(mortal, first, node_id)
    mortal.stop()
    _die(mortal, "attach.record", lambda: volume.attach(mortal, second, node_id))

    mortal.start()
    with refused("RESOURCE_EXHAUSTED", f"'{node_id}' holds 1 volumes"):
        volume.attach(mortal, second, node_id)
    volume.detach(mortal, second, node_id)
    assert view.attached_to(node_id) == {image_id(first)}
    volume.attach(mortal, first, node_id)
    for made in (first, second):
        volume.detach(mortal, made, node_id)
        volume.delete(mortal, made)
        view.wait_until_gone(image_id(made))


def test_a_detach_killed_on_its_way_is_finished_when_repeated(
    mortal: Driver, view: View, node_id: str
) -> None:
    made = _create(mortal.start())
    volume.attach(mortal, made, node_id)
    mortal.stop()
    _die(mortal, "detach.begin", lambda: volume.detach(mortal, made, node_id))
    assert view.attached_to(node_id) == frozenset()  # nothing was staged: one change is all

    volume.detach(mortal.start(), made, node_id)
    assert view.record(made).attachments == {}
    assert view.attached_to(node_id) == frozenset()
    _finish(mortal, view, made)


@pytest.mark.parametrize("step", ["delete.record", "delete.trash"])
def test_a_delete_killed_on_its_way_is_finished_when_repeated(
    mortal: Driver, view: View, step: str
) -> None:
    made = _create(mortal.start())
    mortal.stop()
    _die(mortal, step, lambda: volume.delete(mortal, made))
    assert view.record(made).deleting
    _finish(mortal.start(), view, made)


@pytest.mark.parametrize("step", ["delete.trash", "delete.data", "delete.forget"])
def test_what_was_deleted_is_swept_after_a_crash_though_nobody_calls_again(
    mortal: Driver, view: View, step: str
) -> None:
    made = _create(mortal.start())
    with view.image(made, readonly=False) as image:
        image.write(b"data", 0)
    mortal.stop()
    mortal.start(kill_after=step)
    with contextlib.suppress(grpc.RpcError):  # it may die before the answer, or after it
        volume.delete(mortal, made)
    mortal.wait_for_death()
    mortal.stop()

    mortal.start()
    view.wait_until_gone(image_id(made))


def test_a_volume_whose_deletion_began_cannot_be_attached_or_created_anew(
    mortal: Driver, view: View, node_id: str
) -> None:
    made = _create(mortal.start())
    mortal.stop()
    _die(mortal, "delete.record", lambda: volume.delete(mortal, made))
    mortal.start()
    with refused("NOT_FOUND", "is being deleted since"):
        volume.attach(mortal, made, node_id)
    with refused("ABORTED", "is being deleted; try again"):
        _create(mortal)
    assert view.attached_to(node_id) == frozenset()
    _finish(mortal, view, made)


def test_a_search_for_locations_that_was_cut_off_is_repeated(mortal: Driver, view: View) -> None:
    made = _create(mortal.start())
    mortal.stop()
    registry, location = locations.Registry(view.ioctx, CLUSTER_ID), ids.parse(made.id).location
    every = omap.Omap(view.ioctx, locations.REGISTRY)
    for key, _ in list(every.items()):  # as an older driver, which made the volume
        every.put(key, None)
    dying.in_background(mortal, "location.search")
    assert registry.searched() is None
    mortal.start()
    commands.wait_until(lambda: registry.searched() is not None, "all pools were searched")
    assert location in (registry.all() or ())
    _finish(mortal, view, made)


def _create(controller: Driver, name: str = "volume") -> Volume:
    return volume.create(controller, name, size=16 * MIB)


def _die(controller: Driver, step: str, call: Callable[[], object]) -> None:
    """Make the call at a controller that dies right after the step."""
    controller.start(kill_after=step)
    with refused("UNAVAILABLE"):
        call()
    controller.wait_for_death()
    controller.stop()


def _finish(controller: Driver, view: View, made: Volume) -> None:
    volume.delete(controller, made)
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))
    assert view.images() == []
    assert list(rbd.RBD().trash_list(view.ioctx)) == []
