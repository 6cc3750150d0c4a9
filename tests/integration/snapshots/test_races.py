"""Many callers and two controllers at once: the records in Ceph decide."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import grpc
import pytest

from e2e import driver, groups, snapshots, volume
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.config import clusters_file
from rbdcsi.model import ids, snapshot_class
from rbdcsi.snapshots import group_create
from rbdcsi.snapshots.group_create import GroupRequest
from rbdcsi.snapshots.group_records import StoredGroup
from tests.integration.controller import at_once
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

ROUNDS = 8


@pytest.fixture(scope="module")
def controllers(
    installation: driver.Installation, controller: Driver
) -> Iterator[tuple[Driver, Driver]]:
    other = installation.controller("other").start()
    yield controller, other
    other.stop()


def _names(view: View, made: Volume) -> list[str]:
    with view.image(made) as image:
        return [each["name"] for each in image.list_snaps()]


def _unless_taken(take: Callable[[], csi_pb2.Snapshot]) -> csi_pb2.Snapshot | None:
    """Repeat a call until it succeeds; None if the name stands for another volume's snapshot."""
    try:
        return at_once.repeated(take)
    except grpc.RpcError as error:
        if cast(grpc.Call, error).code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
        return None


def test_one_name_asked_for_by_many(
    controllers: tuple[Driver, Driver], view: View, made: Volume
) -> None:
    for number in range(ROUNDS):
        calls = [
            functools.partial(snapshots.create, each, f"s{number}", made.id)
            for each in controllers * 4
        ]
        answers, codes = at_once.call(calls)
        assert set(codes) <= {"ABORTED"}
        taken = at_once.repeated(calls[0])
        assert all(answer == taken for answer in answers)
        assert _names(view, made) == [f"csi-snap-s{number}"]
        assert list(snapshots.listed(controllers[0])) == [taken]
        deletions = [
            functools.partial(snapshots.delete, each, taken.snapshot_id) for each in controllers
        ]
        _, codes = at_once.call(deletions)
        assert set(codes) <= {"ABORTED"}
        at_once.repeated(deletions[0])
        assert _names(view, made) == []


def test_one_name_asked_for_of_two_volumes(
    controllers: tuple[Driver, Driver], view: View, made: Volume
) -> None:
    other = volume.create(controllers[0], "other", size=16 * MIB)
    for number in range(ROUNDS):
        calls = [
            functools.partial(snapshots.create, each, f"s{number}", source.id)
            for each, source in itertools.product(controllers, (made, other))
        ]
        answers, codes = at_once.call(calls)
        assert set(codes) <= {"ABORTED", "ALREADY_EXISTS"}
        # If every call gave way to another one, the repeated calls settle it.
        answers += [answer for each in calls if (answer := _unless_taken(each))]
        (taken,) = snapshots.listed(controllers[1])
        assert all(answer == taken for answer in answers)
        for source in (made, other):
            assert len(_names(view, source)) == (source.id == taken.source_volume_id)
        snapshots.delete(controllers[0], taken.snapshot_id)
    volume.delete(controllers[0], other)


def test_a_snapshot_taken_while_its_volume_is_deleted(
    controllers: tuple[Driver, Driver], view: View
) -> None:
    for number in range(ROUNDS):
        made = volume.create(controllers[0], f"v{number}", size=16 * MIB)
        one, other = controllers if number % 2 else controllers[::-1]
        take = functools.partial(snapshots.create, one, f"s{number}", made.id)
        delete = functools.partial(volume.delete, other, made)
        both: list[Callable[[], object]] = [take, delete]
        answers, codes = at_once.call(both)
        assert set(codes) <= {"ABORTED", "NOT_FOUND"}
        taken = next((each for each in answers if isinstance(each, csi_pb2.Snapshot)), None)
        at_once.repeated(delete)
        if taken:
            assert snapshots.get(one, taken.snapshot_id) == taken
            snapshots.delete(other, taken.snapshot_id)
        view.wait_until_gone(image_id(made))


def test_a_snapshot_deleted_and_taken_again(
    controllers: tuple[Driver, Driver], view: View, made: Volume
) -> None:
    for _ in range(ROUNDS):
        first = snapshots.create(controllers[0], "s", made.id)
        delete = functools.partial(snapshots.delete, controllers[0], first.snapshot_id)
        again = functools.partial(snapshots.create, controllers[1], "s", made.id)
        both: list[Callable[[], object]] = [delete, again]
        _, codes = at_once.call(both)
        assert set(codes) <= {"ABORTED", "FAILED_PRECONDITION"}
        at_once.repeated(delete)
        second = at_once.repeated(again)
        assert second.snapshot_id != first.snapshot_id
        assert snapshots.get(controllers[0], second.snapshot_id) == second
        assert _names(view, made) == ["csi-snap-s"]
        snapshots.delete(controllers[1], second.snapshot_id)


def test_sixteen_at_once_are_taken_together(controllers: tuple[Driver, Driver], view: View) -> None:
    volumes = [volume.create(controllers[0], f"v{n}", size=16 * MIB) for n in range(16)]
    taken, codes = at_once.call(
        [
            functools.partial(snapshots.create, controllers[0], f"s-{n}", made.id)
            for n, made in enumerate(volumes)
        ]
    )
    assert codes == []
    assert {each.source_volume_id for each in taken} == {made.id for made in volumes}
    _, codes = at_once.call(
        [functools.partial(snapshots.delete, controllers[0], each.snapshot_id) for each in taken]
    )
    assert codes == []
    for made in volumes:
        assert _names(view, made) == []
        volume.delete(controllers[0], made)


@contextlib.contextmanager
def _begun_group(
    controller: Driver, names: Sequence[str]
) -> Iterator[tuple[group_create._Call, tuple[StoredGroup, group_create._Sources]]]:
    """Begin to take group snapshot `g` in this process; give the call, and what it has begun."""
    pooled = Connections(clusters_file.load(controller.config), timeout=10)
    request = GroupRequest("g", list(map(ids.parse, names)), snapshot_class.parse({}))
    with pooled.use(driver.CLUSTER_ID) as connection:
        home, volume_locations = connection.home(), Locations(pooled)
        call = group_create._Call(volume_locations, connection, home, driver.CLUSTER_ID)
        yield call, call._begun(request, sorted(names), None)


def test_a_call_that_another_controller_has_overtaken_leaves_its_snapshots_alone(
    controller: Driver, view: View
) -> None:
    volumes = [volume.create(controller, f"v{number}", size=16 * MIB) for number in range(2)]
    names = [each.id for each in volumes]
    with _begun_group(controller, names) as (late, begun):
        group = groups.create(controller, "g", names)
        with pytest.raises(errors.Busy, match="took snapshot"):
            late._taken(*begun)
        for made in volumes:
            with view.image(made, readonly=False) as image:
                (snapshot,) = _names(view, made)
                image.rename_snap(snapshot, "renamed")
        with pytest.raises(errors.Busy, match="by another call"):
            late._taken(*begun)  # now it takes its own, and finds that it is late
        assert [_names(view, each) for each in volumes] == [["renamed"], ["renamed"]]
    groups.delete(controller, group.group_snapshot_id)
    for made in volumes:
        volume.delete(controller, made)


def test_snapshots_of_a_group_stay_if_its_record_may_have_been_written(
    controller: Driver, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = [volume.create(controller, f"v{number}", size=16 * MIB) for number in range(2)]
    names = [each.id for each in volumes]
    with _begun_group(controller, names) as (call, begun):
        swap = call._groups.swap

        def swap_without_an_answer(*arguments: StoredGroup | None) -> bool:
            assert swap(*arguments)
            raise errors.Unavailable("the answer is late")

        monkeypatch.setattr(call._groups, "swap", swap_without_an_answer)
        with pytest.raises(errors.Unavailable):
            call._taken(*begun)
    group = groups.create(controller, "g", names)
    assert [len(_names(view, each)) for each in volumes] == [1, 1]
    groups.delete(controller, group.group_snapshot_id)
    for made in volumes:
        volume.delete(controller, made)
