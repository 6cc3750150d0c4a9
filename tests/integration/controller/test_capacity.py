"""GetCapacity: what the pool that the data goes to can still take."""

import uuid
from collections.abc import Iterator, Mapping, Sequence

import pytest

from e2e import volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.volume import MIB
from rbdcsi.api import csi_pb2
from tests import faults
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

QUOTA = 512 * MIB


@pytest.fixture(scope="module")
def limited_pool(cluster: Cluster) -> Iterator[str]:
    name = f"limited-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name, quota_bytes=QUOTA)
    cluster.wait_until_counted(name)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="module")
def coded_pool(cluster: Cluster) -> Iterator[str]:
    name = f"coded-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name, erasure=True)
    cluster.wait_until_counted(name)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="module")
def further_pools(limited_pool: str, coded_pool: str) -> Sequence[str]:
    return (limited_pool, coded_pool)


def test_a_pool_has_what_the_cluster_says_is_free(
    cluster: Cluster, controller: Driver, pool: str
) -> None:
    free = cluster.free_bytes()[pool]
    assert abs(_capacity(controller).available_capacity - free) < free / 10
    assert free > QUOTA


def test_a_quota_bounds_what_is_free(controller: Driver, limited_pool: str) -> None:
    found = _capacity(controller, {"pool": limited_pool}).available_capacity
    assert QUOTA - 16 * MIB <= found <= QUOTA


def test_the_data_pool_counts_where_there_is_one(
    cluster: Cluster, controller: Driver, limited_pool: str, coded_pool: str
) -> None:
    parameters = {"pool": limited_pool, "dataPool": coded_pool}
    free = cluster.free_bytes()[coded_pool]
    assert abs(_capacity(controller, parameters).available_capacity - free) < free / 10
    assert free > QUOTA


def test_a_pool_that_is_not_counted_yet_is_told_as_such(
    cluster: Cluster, controller: Driver
) -> None:
    new = f"new-{uuid.uuid4().hex[:8]}"
    try:
        with faults.frozen(cluster.pid("mgr")):
            cluster.ceph("osd", "pool", "create", new)
            with refused("UNAVAILABLE", f"has no statistics of pool '{new}'; a new pool"):
                _capacity(controller, {"pool": new})
        cluster.wait_until_counted(new)
        assert _capacity(controller, {"pool": new}).available_capacity > QUOTA
    finally:
        cluster.delete_pool(new)


def test_the_bounds_of_one_volume_are_told(controller: Driver) -> None:
    plain = _capacity(controller)
    assert plain.minimum_volume_size.value == MIB
    small = _capacity(controller, {"objectSize": "4K"})
    assert small.maximum_volume_size.value < plain.maximum_volume_size.value
    asked = _capacity(controller, {}, volume.mounted("xfs"))
    assert asked.minimum_volume_size.value == 300 * MIB
    with refused("OUT_OF_RANGE"):
        volume.create(controller, "over", size=plain.maximum_volume_size.value + 1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"pool": "nowhere"}, "no pool 'nowhere'"),
        ({"dataPool": "nowhere"}, "no pool 'nowhere'"),
        ({"clusterID": "other"}, "clusterID 'other'"),
        ({"poool": "x"}, "unknown parameter 'poool'"),
    ],
)
def test_what_is_unknown_is_refused(
    controller: Driver, parameters: Mapping[str, str], words: str
) -> None:
    with refused("INVALID_ARGUMENT", words):
        _capacity(controller, parameters)


def _capacity(
    controller: Driver,
    parameters: Mapping[str, str] | None = None,
    *asked: csi_pb2.VolumeCapability,
) -> csi_pb2.GetCapacityResponse:
    return controller.controller.GetCapacity(
        csi_pb2.GetCapacityRequest(parameters=parameters or {}, volume_capabilities=asked)
    )
