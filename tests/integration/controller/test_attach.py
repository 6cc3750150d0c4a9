"""ControllerPublishVolume: who may have a volume, by the access modes of CSI."""

import pytest
import rbd

from e2e import driver, volume
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.records import State
from rbdcsi.model.capabilities import AccessMode
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

A, B = "node-1", "node-2"
SINGLE = [mode.value for mode in AccessMode if mode.single_node]
MODES = [mode.value for mode in AccessMode]


def _as(made: Volume, mode: str) -> Volume:
    """Give the volume as a caller has it who asks for that mode."""
    return Volume(made.id, volume.raw(mode))


@pytest.fixture(autouse=True)
def registered(known_nodes: tuple[str, str]) -> None:
    assert known_nodes == (A, B)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_repeat_is_the_same_attachment_and_one_otherwise_is_refused(
    controller: Driver, view: View, made: Volume, mode: str, readonly: bool
) -> None:
    one = _as(made, mode)
    volume.attach(controller, one, A, readonly=readonly)
    before = view.record(made)
    held = before.attachments[A]
    only_reads = readonly or mode.endswith("READER_ONLY")
    assert (held.mode.value, held.readonly, held.state) == (mode, only_reads, State.ATTACHED)
    assert one.publish_context == {"generation": str(held.generation)}

    volume.attach(controller, one, A, readonly=readonly)
    assert one.publish_context == {"generation": str(held.generation)}
    if not mode.endswith("READER_ONLY"):
        with refused("ALREADY_EXISTS", f"'{A}'", mode, "read-only", "read-write"):
            volume.attach(controller, one, A, readonly=not readonly)
    for other in set(MODES) - {mode}:
        with refused("ALREADY_EXISTS", f"'{A}'", mode, other):
            volume.attach(controller, _as(made, other), A, readonly=readonly)
    assert view.record(made) == before


@pytest.mark.parametrize("mode", SINGLE)
def test_a_second_node_is_refused_and_the_holder_named(
    controller: Driver, view: View, made: Volume, mode: str
) -> None:
    volume.attach(controller, _as(made, mode), A)
    with refused("FAILED_PRECONDITION", made.id, f"attached at node '{A}'", mode, f"'{B}'"):
        volume.attach(controller, _as(made, mode), B)
    with refused("FAILED_PRECONDITION", f"'{A}'"):
        volume.attach(controller, _as(made, mode), B, readonly=True)
    assert view.record(made).attachments.keys() == {A}
    assert view.attached_to(B) == frozenset()


@pytest.mark.parametrize(
    ("mode", "readonly"),
    [
        ("MULTI_NODE_READER_ONLY", (False, False)),
        ("MULTI_NODE_MULTI_WRITER", (False, False)),
        ("MULTI_NODE_MULTI_WRITER", (False, True)),
        ("MULTI_NODE_SINGLE_WRITER", (False, True)),
        ("MULTI_NODE_SINGLE_WRITER", (True, False)),
        ("MULTI_NODE_SINGLE_WRITER", (True, True)),
    ],
)
def test_two_nodes_have_it_where_the_mode_allows_that(
    controller: Driver, view: View, made: Volume, mode: str, readonly: tuple[bool, bool]
) -> None:
    for node_id, reads in zip((A, B), readonly, strict=True):
        volume.attach(controller, _as(made, mode), node_id, readonly=reads)
    held = view.record(made).attachments
    assert held.keys() == {A, B}
    assert held[A].generation != held[B].generation


def test_the_second_writer_of_a_single_writer_volume_is_refused(
    controller: Driver, view: View, made: Volume
) -> None:
    shared = _as(made, "MULTI_NODE_SINGLE_WRITER")
    volume.attach(controller, shared, A)
    with refused("FAILED_PRECONDITION", f"'{A}'", "read-write"):
        volume.attach(controller, shared, B)
    assert view.record(made).attachments.keys() == {A}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("MULTI_NODE_READER_ONLY", "SINGLE_NODE_WRITER"),
        ("MULTI_NODE_READER_ONLY", "MULTI_NODE_MULTI_WRITER"),
        ("MULTI_NODE_SINGLE_WRITER", "MULTI_NODE_READER_ONLY"),
        ("MULTI_NODE_MULTI_WRITER", "SINGLE_NODE_READER_ONLY"),
    ],
)
def test_different_modes_do_not_go_together(
    controller: Driver, made: Volume, first: str, second: str
) -> None:
    volume.attach(controller, _as(made, first), A)
    with refused("FAILED_PRECONDITION", f"'{A}'", first, second):
        volume.attach(controller, _as(made, second), B)


def test_each_attachment_has_a_greater_generation_than_all_before(
    controller: Driver, made: Volume
) -> None:
    generations = []
    for node_id in (A, B, A, A):
        volume.attach(controller, made, node_id)
        generations.append(int(made.publish_context["generation"]))
        volume.detach(controller, made, node_id)
    assert generations == [1, 2, 3, 4]


def test_a_node_that_never_registered_is_not_found(
    controller: Driver, view: View, made: Volume
) -> None:
    with refused("NOT_FOUND", "'ghost' is not registered", "--node-id"):
        volume.attach(controller, made, "ghost")
    assert view.record(made).attachments == {}
    assert view.attached_to("ghost") == frozenset()


@pytest.mark.parametrize(
    ("volume_id", "words"),
    [
        ("no handle", "a volume_id of this driver reads"),
        ("v1:elsewhere:1::abc", "its cluster elsewhere is not in the driver's configuration"),
        ("v1:local:9999::abc", "no pool number 9999"),
        ("v1:local:{pool}::123456", "its image is gone"),
        ("v1:local:{pool}:nowhere:123456", "its image is gone"),
    ],
)
def test_a_volume_that_does_not_exist_is_not_found(
    controller: Driver, view: View, volume_id: str, words: str
) -> None:
    text = volume_id.format(pool=view.ioctx.get_pool_id())
    with refused("NOT_FOUND", words):
        volume.attach(controller, Volume(text, volume.mounted()), A)
    assert view.attached_to(A) == frozenset()


def test_a_volume_in_the_trash_is_not_found(controller: Driver, view: View) -> None:
    made = volume.create(controller, "aside", size=16 * MIB)
    rbd.RBD().trash_move(view.ioctx, "csi-aside")
    with refused("NOT_FOUND", "its image is gone"):
        volume.attach(controller, made, A)
    rbd.RBD().trash_restore(view.ioctx, made.id.rsplit(":", 1)[1], "csi-aside")
    volume.delete(controller, made)


@pytest.mark.parametrize("field", ["volume_id", "node_id", "volume_capability"])
def test_a_missing_field_is_named(controller: Driver, made: Volume, field: str) -> None:
    request = csi_pb2.ControllerPublishVolumeRequest(
        volume_id=made.id, node_id=A, volume_capability=made.capability
    )
    request.ClearField(field)  # type: ignore[arg-type]
    with refused("INVALID_ARGUMENT", f"{field} is missing"):
        controller.controller.ControllerPublishVolume(request)


def test_a_full_node_is_refused_by_its_limit_until_one_is_detached(
    installation: driver.Installation, controller: Driver, view: View
) -> None:
    node = installation.node("node-one", "--max-volumes", "1").start()
    wait_until_registered(view.ioctx, node)
    node.stop()
    one, two = (volume.create(controller, name, size=16 * MIB) for name in ("one", "two"))
    volume.attach(controller, one, "node-one")
    volume.attach(controller, one, "node-one")
    with refused("RESOURCE_EXHAUSTED", "'node-one' holds 1 volumes", "--max-volumes", two.id):
        volume.attach(controller, two, "node-one")
    assert view.attached_to("node-one") == {image_id(one)}
    volume.detach(controller, one, "node-one")
    volume.attach(controller, two, "node-one")
    for made in (one, two):
        volume.detach(controller, made, "node-one")
        volume.delete(controller, made)
