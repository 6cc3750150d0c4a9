"""Many callers and two controllers at once: the records in Ceph decide, and nobody else."""

import functools
from collections.abc import Iterator

import pytest

from e2e import driver, volume
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from tests.integration.controller import at_once
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered

pytestmark = pytest.mark.usefixtures("nothing_left")

ROOM = 3  # volumes that the small node may hold


@pytest.fixture(scope="module")
def controllers(
    installation: driver.Installation, controller: Driver
) -> Iterator[tuple[Driver, Driver]]:
    other = installation.controller("other").start()
    yield controller, other
    other.stop()


@pytest.fixture(scope="module")
def small_node(installation: driver.Installation, view: View) -> str:
    node = installation.node("small", "--max-volumes", str(ROOM)).start()
    wait_until_registered(view.ioctx, node)
    node.stop()
    return "small"


@pytest.mark.parametrize("count", [1, 2])
def test_creates_of_one_name_at_once_give_one_image(
    controllers: tuple[Driver, Driver], view: View, count: int
) -> None:
    for round_number in range(5):
        name = f"race-{round_number}"
        answers, codes = at_once.call(
            [
                functools.partial(volume.create, controllers[number % count], name, size=16 * MIB)
                for number in range(16)
            ]
        )
        assert set(codes) <= {"ABORTED"}
        assert len({made.id for made in answers}) == 1
        assert view.images() == [f"csi-{name}"]
        assert volume.create(controllers[0], name, size=16 * MIB) == answers[0]
        volume.delete(controllers[0], answers[0])


@pytest.mark.parametrize("count", [1, 2])
def test_fifty_attaches_of_one_volume_to_two_nodes_have_one_winner(
    controllers: tuple[Driver, Driver],
    known_nodes: tuple[str, str],
    view: View,
    made: Volume,
    count: int,
) -> None:
    def attach(number: int) -> str:
        node_id = known_nodes[number // 2 % 2]
        one = Volume(made.id, made.capability)
        volume.attach(controllers[number % count], one, node_id)
        return node_id

    winners, codes = at_once.call([functools.partial(attach, number) for number in range(50)])

    assert len(set(winners)) == 1
    assert set(codes) <= {"ABORTED", "FAILED_PRECONDITION"}
    record = view.record(made)
    assert set(record.attachments) == set(winners)
    assert record.generation == 1
    for node_id in known_nodes:
        assert (image_id(made) in view.attached_to(node_id)) == (node_id in winners)


@pytest.mark.parametrize("count", [1, 2])
def test_a_node_never_holds_more_than_it_may(
    controllers: tuple[Driver, Driver], small_node: str, view: View, count: int
) -> None:
    volumes = [volume.create(controllers[0], f"many-{n}", size=16 * MIB) for n in range(12)]

    def attach(number: int) -> str:
        volume.attach(controllers[number % count], volumes[number], small_node)
        return volumes[number].id

    attached, codes = at_once.call(
        [functools.partial(attach, number) for number in range(len(volumes))]
    )

    assert len(attached) <= ROOM
    assert set(codes) == {"RESOURCE_EXHAUSTED"}
    assert view.attached_to(small_node) == {
        image_id(made) for made in volumes if made.id in attached
    }
    holders = {made.id for made in volumes if small_node in view.record(made).attachments}
    assert holders == set(attached)
    for made in volumes:
        volume.detach(controllers[0], made, small_node)
        volume.delete(controllers[0], made)


def test_attach_and_delete_at_once_never_both_succeed(
    controllers: tuple[Driver, Driver], known_nodes: tuple[str, str], view: View
) -> None:
    for round_number in range(8):
        made = volume.create(controllers[0], f"either-{round_number}", size=16 * MIB)

        def attach(made: Volume = made) -> str:
            volume.attach(controllers[0], made, known_nodes[0])
            return "attached"

        def delete(made: Volume = made) -> str:
            volume.delete(controllers[1], made)
            return "deleted"

        done, codes = at_once.call([attach, delete])
        assert len(done) == 1
        assert set(codes) <= {"FAILED_PRECONDITION", "NOT_FOUND", "ABORTED"}
        if done == ["attached"]:
            volume.detach(controllers[0], made, known_nodes[0])
            volume.delete(controllers[0], made)
        view.wait_until_gone(image_id(made))
        assert view.attached_to(known_nodes[0]) == frozenset()


def test_deletes_of_one_volume_at_once_all_end_well(
    controllers: tuple[Driver, Driver], view: View
) -> None:
    for round_number in range(5):
        made = volume.create(controllers[0], f"gone-{round_number}", size=16 * MIB)
        _, codes = at_once.call(
            [functools.partial(volume.delete, controllers[n % 2], made) for n in range(12)]
        )
        assert set(codes) <= {"ABORTED"}
        volume.delete(controllers[0], made)
        assert view.images() == []
