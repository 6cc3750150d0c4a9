"""Clones whose parent was in a pool that was removed: nothing of them is left by their deletion."""

import uuid
from collections.abc import Iterator, Sequence

import pytest

from e2e import snapshots, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.ceph import objects, omap
from rbdcsi.ceph.images import Images
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

POOL = f"removed-{uuid.uuid4().hex[:8]}"
SIZE = 16 * MIB


@pytest.fixture(scope="module")
def further_pools() -> Sequence[str]:
    return (POOL,)


@pytest.fixture
def copy(controller: Driver, cluster: Cluster) -> Iterator[Volume]:
    """Give a copy of a volume whose pool a test removes."""
    cluster.create_pool(POOL)
    source = volume.create(controller, "source", size=SIZE, parameters={"pool": POOL})
    yield volume.create(controller, "copy", size=SIZE, source=source.id)
    if POOL in cluster.pools:
        cluster.delete_pool(POOL)


@pytest.mark.parametrize("restarted", [True, False])
def test_such_a_copy_is_deleted_with_its_data(
    controller: Driver, cluster: Cluster, view: View, copy: Volume, *, restarted: bool
) -> None:
    cluster.delete_pool(POOL)
    if restarted:
        controller.stop()
        controller.start()
    volume.delete(controller, copy)
    view.wait_until_gone(view.image_id(copy))


def _remove_parent(view: View, made: Volume) -> None:
    """Do what the doctor says of a lost parent."""
    header = objects.HEADER + view.image_id(made)
    omap.Omap(view.ioctx, header).put(objects.PARENT, None)


def test_a_copy_of_it_stays_until_a_person_has_removed_the_lost_parent(
    controller: Driver, cluster: Cluster, view: View, copy: Volume
) -> None:
    second = volume.create(controller, "second", size=SIZE, source=copy.id)
    cluster.delete_pool(POOL)
    for each in (second, copy):
        with refused("FAILED_PRECONDITION", "no client can open", "lost-parent"):
            volume.delete(controller, each)
        assert view.record(each).deleting is None

    _remove_parent(view, copy)
    for each in (second, copy):
        volume.delete(controller, each)
        view.wait_until_gone(view.image_id(each))


def test_its_snapshot_stays_until_a_person_has_removed_the_lost_parent(
    controller: Driver, cluster: Cluster, view: View, copy: Volume
) -> None:
    taken = snapshots.create(controller, "kept", copy.id).snapshot_id
    cluster.delete_pool(POOL)
    with refused("FAILED_PRECONDITION", "no client can open", "lost-parent"):
        snapshots.delete(controller, taken)
    with refused("FAILED_PRECONDITION", "no client can open", "lost-parent"):
        volume.delete(controller, copy)
    header = Images(view.ioctx).header(view.image_id(copy))
    assert header
    assert len(header.user_snapshots()) == 1

    _remove_parent(view, copy)
    snapshots.delete(controller, taken)
    volume.delete(controller, copy)
    view.wait_until_gone(view.image_id(copy))


def test_the_last_snapshot_of_a_deleted_one_is_deleted_with_its_data(
    controller: Driver, cluster: Cluster, view: View, copy: Volume
) -> None:
    taken = snapshots.create(controller, "last", copy.id).snapshot_id
    volume.delete(controller, copy)
    cluster.delete_pool(POOL)
    snapshots.delete(controller, taken)
    view.wait_until_gone(view.image_id(copy))
