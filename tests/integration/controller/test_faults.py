"""A Ceph that does not answer, is full or has lost a pool: an answer in time, and no restart."""

import functools
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
import rados

from e2e import driver, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from tests import faults
from tests.integration.controller import at_once
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

IN_TIME = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
NODE = "node-1"
LOST_POOL = f"lost-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def further_pools() -> Sequence[str]:
    return (LOST_POOL,)


@pytest.fixture(scope="module")
def hasty(installation: driver.Installation) -> Iterator[Driver]:
    """Give a controller that does not wait long for Ceph."""
    started = installation.controller("hasty", "--operation-timeout", "2").start()
    yield started
    started.stop()


@pytest.fixture
def volumes(hasty: Driver, known_nodes: tuple[str, str]) -> Iterator[list[Volume]]:
    """Give three volumes, the second of them attached."""
    made = [volume.create(hasty, f"v-{number}", size=16 * MIB) for number in range(3)]
    volume.attach(hasty, made[1], known_nodes[0])
    yield made
    for each in made:
        volume.detach(hasty, each, "")
        volume.delete(hasty, each)


def test_calls_end_in_time_while_the_osd_hangs_and_succeed_after_it(
    cluster: Cluster, hasty: Driver, view: View, volumes: list[Volume]
) -> None:
    fresh, attached, doomed = volumes
    calls: list[Callable[[], object]] = [
        functools.partial(volume.create, hasty, "new", size=16 * MIB),
        functools.partial(volume.attach, hasty, fresh, NODE),
        functools.partial(volume.detach, hasty, attached, NODE),
        functools.partial(volume.delete, hasty, doomed),
        functools.partial(_list, hasty),
        functools.partial(_get, hasty, fresh),
    ]
    with faults.frozen_osd(cluster):
        answers, codes = at_once.call(calls)
        assert answers == []
        assert set(codes) <= IN_TIME

    for call in calls:
        call()
    assert view.images() == ["csi-new", "csi-v-0", "csi-v-1"]
    assert view.record(fresh).attachments.keys() == {NODE}
    assert view.record(attached).attachments == {}
    assert view.attached_to(NODE) == {image_id(fresh)}
    view.wait_until_gone(image_id(doomed))
    volume.delete(hasty, volume.create(hasty, "new", size=16 * MIB))


def test_a_caller_with_less_patience_than_the_driver_gets_an_end_of_its_own(
    cluster: Cluster, controller: Driver, view: View
) -> None:
    request = csi_pb2.CreateVolumeRequest(
        name="impatient",
        capacity_range=csi_pb2.CapacityRange(required_bytes=16 * MIB),
        volume_capabilities=[volume.mounted()],
    )
    with faults.frozen_osd(cluster), refused("DEADLINE_EXCEEDED"):
        controller.controller.CreateVolume(request, timeout=1)
    made = at_once.repeated(lambda: controller.controller.CreateVolume(request)).volume
    assert view.images() == ["csi-impatient"]
    volume.delete(controller, Volume(made.volume_id, volume.mounted()))


def test_questions_to_the_monitor_end_in_time_while_it_hangs(
    cluster: Cluster, hasty: Driver, installation: driver.Installation, volumes: list[Volume]
) -> None:
    stranger = installation.controller("stranger", "--operation-timeout", "2")
    calls: list[Callable[[], object]] = [
        functools.partial(_capacity, hasty),
        functools.partial(volume.create, stranger, "new", size=16 * MIB),
        functools.partial(volume.delete, stranger, volumes[2]),
    ]
    with faults.frozen_mon(cluster):
        stranger.start()
        answers, codes = at_once.call(calls)
        assert answers == []
        assert set(codes) <= IN_TIME
        assert not _ready(stranger)
        volume.attach(hasty, volumes[0], NODE)  # what needs no monitor goes on
        assert len(_list(hasty).entries) == 3

    # A failure to connect is remembered for some seconds.
    made = at_once.repeated(
        lambda: volume.create(stranger, "new", size=16 * MIB), codes=("UNAVAILABLE",)
    )
    volume.delete(stranger, made)
    assert _ready(stranger)
    stranger.stop()


@pytest.mark.parametrize("whole_cluster", [False, True])
def test_when_it_is_full_nothing_is_created_but_all_else_goes_on(
    cluster: Cluster,
    admin: rados.Rados,
    hasty: Driver,
    view: View,
    volumes: list[Volume],
    whole_cluster: bool,
) -> None:
    fresh, attached, doomed = volumes
    with view.image(doomed, readonly=False) as image:
        image.write(b"x" * MIB, 0)
    with faults.full(cluster, None if whole_cluster else view.ioctx.get_pool_name()):
        view.tell_osd_the_newest_map(admin)
        with refused("RESOURCE_EXHAUSTED", "csi-new", "set-quota"):
            volume.create(hasty, "new", size=16 * MIB)
        volume.attach(hasty, fresh, NODE)
        volume.detach(hasty, attached, NODE)
        volume.delete(hasty, doomed)
        view.wait_until_gone(image_id(doomed))
    volume.delete(hasty, volume.create(hasty, "new", size=16 * MIB))


@pytest.fixture
def lost_pool(cluster: Cluster, admin: rados.Rados) -> Iterator[str]:
    cluster.create_pool(LOST_POOL)
    yield LOST_POOL
    if admin.pool_exists(LOST_POOL):
        cluster.delete_pool(LOST_POOL)


def test_the_volumes_of_a_deleted_pool_are_gone_and_all_others_stay(
    cluster: Cluster,
    installation: driver.Installation,
    hasty: Driver,
    lost_pool: str,
    view: View,
    volumes: list[Volume],
) -> None:
    lost, also_lost, forgotten = (
        volume.create(hasty, name, size=16 * MIB, parameters={"pool": lost_pool})
        for name in ("lost", "also-lost", "forgotten")
    )
    for made in (lost, also_lost):
        volume.attach(hasty, made, NODE)
    cluster.delete_pool(lost_pool)

    with refused("NOT_FOUND"):
        volume.attach(hasty, forgotten, NODE)
    with refused("NOT_FOUND"):
        _get(hasty, lost)
    with refused("INVALID_ARGUMENT", f"no pool '{lost_pool}'"):
        volume.create(hasty, "new", size=16 * MIB, parameters={"pool": lost_pool})
    volume.detach(hasty, lost, NODE)
    volume.detach(hasty, lost, "")
    newcomer = installation.controller("newcomer").start()  # one that never had the pool open
    volume.detach(newcomer, also_lost, NODE)
    volume.delete(newcomer, also_lost)
    newcomer.stop()
    volume.delete(hasty, lost)
    volume.delete(hasty, forgotten)
    assert {entry.volume.volume_id for entry in _list(hasty).entries} == {v.id for v in volumes}
    volume.attach(hasty, volumes[0], NODE)
    volume.delete(hasty, volumes[2])
    view.wait_until_gone(image_id(volumes[2]))
    assert view.attached_to(NODE) == set(map(image_id, volumes[:2]))


def _list(controller: Driver) -> csi_pb2.ListVolumesResponse:
    return controller.controller.ListVolumes(csi_pb2.ListVolumesRequest())


def _get(controller: Driver, made: Volume) -> csi_pb2.ControllerGetVolumeResponse:
    return controller.controller.ControllerGetVolume(
        csi_pb2.ControllerGetVolumeRequest(volume_id=made.id)
    )


def _capacity(controller: Driver) -> csi_pb2.GetCapacityResponse:
    return controller.controller.GetCapacity(csi_pb2.GetCapacityRequest())


def _ready(controller: Driver) -> bool:
    return controller.identity.Probe(csi_pb2.ProbeRequest(), timeout=20).ready.value
