"""CreateSnapshot, DeleteSnapshot, ListSnapshots and GetSnapshot, and what Ceph shows of them."""

import struct
import time
from collections.abc import Iterator, Sequence

import pytest
import rados
import rbd

from e2e import driver, snapshots, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.ceph import objects
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def further_pools(second_pool: str) -> Sequence[str]:
    """Let the driver use a second pool."""
    return (second_pool,)


def _names(view: View, made: Volume) -> list[str]:
    with view.image(made) as image:
        return [each["name"] for each in image.list_snaps() if each["namespace"] == 0]


def test_a_snapshot_is_a_plain_rbd_snapshot(controller: Driver, view: View, made: Volume) -> None:
    began = time.time()
    taken = snapshots.create(controller, "s", made.id)
    assert (taken.source_volume_id, taken.size_bytes, taken.ready_to_use) == (
        *(made.id, made.size, True),
    )
    created = taken.creation_time.seconds + taken.creation_time.nanos / 1e9
    assert began - 2 < created < time.time() + 2
    with view.image(made) as image:
        (seen,) = image.list_snaps()
    assert (seen["name"], seen["size"]) == ("csi-snap-s", made.size)
    assert taken.snapshot_id == f"s1{made.id[2:]}:{seen['id']}"
    assert snapshots.create(controller, "s", made.id) == taken
    assert snapshots.get(controller, taken.snapshot_id) == taken
    snapshots.delete(controller, taken.snapshot_id)
    snapshots.delete(controller, taken.snapshot_id)
    assert _names(view, made) == []
    with refused("NOT_FOUND", f"snapshot {taken.snapshot_id} does not exist"):
        snapshots.get(controller, taken.snapshot_id)


def test_a_snapshot_keeps_the_size_and_data_of_its_moment(
    controller: Driver, view: View, made: Volume
) -> None:
    with view.image(made, readonly=False) as image:
        image.write(b"before", 0)
        taken = snapshots.create(controller, "s", made.id)
        image.write(b"after!", 0)
        image.resize(2 * made.size)
    assert snapshots.create(controller, "s", made.id).size_bytes == made.size
    with rbd.Image(view.ioctx, image_id=image_id(made), snapshot="csi-snap-s") as snapshot:
        assert snapshot.read(0, 6) == b"before"
    snapshots.delete(controller, taken.snapshot_id)


def test_names_and_prefix(controller: Driver, view: View, made: Volume) -> None:
    odd = snapshots.create(controller, "a/b@c", made.id)
    mine = snapshots.create(
        controller,
        "plain",
        made.id,
        parameters={
            "clusterID": driver.CLUSTER_ID,
            "pool": "any",
            "snapshotNamePrefix": "team-",
            "csi.storage.k8s.io/volumesnapshot/name": "before-upgrade",
            "csi.storage.k8s.io/snapshotter-secret-name": "unused",
        },
    )
    hashed, plain = _names(view, made)
    assert hashed.startswith("csi-snap-sha256.")
    assert plain == "team-plain"
    for taken in (odd, mine):
        snapshots.delete(controller, taken.snapshot_id)


@pytest.fixture(params=["pool", "second_pool"])
def elsewhere(request: pytest.FixtureRequest, admin: rados.Rados) -> Iterator[View]:
    """Give the pool of another volume: the same, or another one."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(request.getfixturevalue(request.param)) as ioctx:
        yield View(ioctx)


def test_a_name_stands_for_one_snapshot_of_one_volume(
    controller: Driver, view: View, elsewhere: View, made: Volume, cluster: Cluster, pool: str
) -> None:
    parameters = {"pool": elsewhere.ioctx.get_pool_name()}
    other = volume.create(controller, "other", size=16 * MIB, parameters=parameters)
    first = snapshots.create(controller, "s", made.id)
    with refused("ALREADY_EXISTS", "snapshot 's' is one of volume", made.id, other.id):
        snapshots.create(controller, "s", other.id)
    # RBD's own tools remove it: the name is free
    cluster.rbd("snap", "rm", f"{pool}/{made.context['imageName']}@csi-snap-s")
    second = snapshots.create(controller, "s", other.id)
    assert (_names(view, made), _names(elsewhere, other)) == ([], ["csi-snap-s"])
    snapshots.delete(controller, first.snapshot_id)
    assert snapshots.get(controller, second.snapshot_id) == second
    snapshots.delete(controller, second.snapshot_id)
    third = snapshots.create(controller, "s", made.id)
    cluster.rbd("snap", "rm", f"{pool}/{made.context['imageName']}@csi-snap-s")
    fourth = snapshots.create(controller, "s", made.id)
    assert third.snapshot_id != fourth.snapshot_id
    snapshots.delete(controller, third.snapshot_id)
    assert snapshots.get(controller, fourth.snapshot_id) == fourth
    snapshots.delete(controller, fourth.snapshot_id)
    volume.delete(controller, other)


def test_snapshots_of_other_programs_are_neither_taken_over_nor_deleted(
    controller: Driver, view: View, made: Volume
) -> None:
    with view.image(made, readonly=False) as image:
        image.create_snap("csi-snap-s")
        (seen,) = image.list_snaps()
    with refused("ALREADY_EXISTS", "has a snapshot 'csi-snap-s' that was not taken for", "'s'"):
        snapshots.create(controller, "s", made.id)
    foreign = f"s1{made.id[2:]}:{seen['id']}"
    assert snapshots.get(controller, foreign).size_bytes == made.size
    assert [each.snapshot_id for each in snapshots.listed(controller, snapshot_id=foreign)] == [
        foreign
    ]
    assert list(snapshots.listed(controller, source=made.id)) == []
    with refused("FAILED_PRECONDITION", "was not taken by this driver and is not deleted"):
        snapshots.delete(controller, foreign)
    with view.image(made, readonly=False) as image:
        image.remove_snap("csi-snap-s")
    snapshots.delete(controller, foreign)


def test_what_a_class_may_not_say(controller: Driver, made: Volume) -> None:
    for parameters, words in (
        ({"snapshotNamePrefx": "a-"}, "did you mean snapshotNamePrefix?"),
        ({"snapshotNamePrefix": "a/"}, "snapshotNamePrefix: 'a/' does not match"),
        ({"clusterID": "another"}, "parameter clusterID is 'another', but volume"),
    ):
        with refused("INVALID_ARGUMENT", words):
            snapshots.create(controller, "s", made.id, parameters=parameters)


def test_volumes_and_snapshots_that_are_not_there(controller: Driver, made: Volume) -> None:
    gone = f"{made.id}0"
    far = made.id.replace(f":{driver.CLUSTER_ID}:", ":elsewhere:")
    for source in (gone, far, "something"):
        with refused("NOT_FOUND", "does not exist"):
            snapshots.create(controller, "s", source)
        assert list(snapshots.listed(controller, source=source)) == []
    for snapshot_id in (f"s1{gone[2:]}:4", f"s1{far[2:]}:4", f"s1{made.id[2:]}:999", "something"):
        assert list(snapshots.listed(controller, snapshot_id=snapshot_id)) == []
        with refused("NOT_FOUND", "does not exist"):
            snapshots.get(controller, snapshot_id)
    for snapshot_id in (f"s1{gone[2:]}:4", f"s1{made.id[2:]}:999", "something"):
        snapshots.delete(controller, snapshot_id)
    with refused("FAILED_PRECONDITION", "is not in the driver's configuration"):
        snapshots.delete(controller, f"s1{far[2:]}:4")


def test_lists(controller: Driver, made: Volume) -> None:
    other = volume.create(controller, "other", size=16 * MIB)
    taken = [
        snapshots.create(controller, f"{name}{number}", source.id)
        for number in range(3)
        for name, source in (("s", made), ("o", other))
    ]
    everything = list(snapshots.listed(controller))
    assert sorted(everything, key=str) == sorted(taken, key=str)
    for most in (1, 2, 4, 5, 6):
        assert list(snapshots.listed(controller, most=most)) == everything
    mine = [each for each in taken if each.source_volume_id == made.id]
    assert list(snapshots.listed(controller, source=made.id)) == mine
    assert list(snapshots.listed(controller, source=made.id, most=1)) == mine
    with refused("ABORTED", "starting_token 'x' is not of this driver"):
        request = csi_pb2.ListSnapshotsRequest(starting_token="x")  # noqa: S106  it is none
        controller.controller.ListSnapshots(request)
    with refused("INVALID_ARGUMENT", "max_entries is -1"):
        next(snapshots.listed(controller, most=-1))
    for each in taken:
        snapshots.delete(controller, each.snapshot_id)
    assert list(snapshots.listed(controller)) == []
    volume.delete(controller, other)


def test_a_snapshot_with_a_clone_is_deleted_at_once_and_gone_with_the_clone(
    controller: Driver, view: View, made: Volume, cluster: Cluster, pool: str
) -> None:
    taken = snapshots.create(controller, "s", made.id)
    source = f"{pool}/{made.context['imageName']}@csi-snap-s"
    cluster.rbd("clone", "--rbd-default-clone-format", "2", source, f"{pool}/clone")
    snapshots.delete(controller, taken.snapshot_id)
    assert list(snapshots.listed(controller)) == []
    with view.image(made) as image:
        assert [each["namespace"] for each in image.list_snaps()] == [2]
    again = snapshots.create(controller, "s", made.id)
    assert again.snapshot_id != taken.snapshot_id
    snapshots.delete(controller, again.snapshot_id)
    cluster.rbd("rm", f"{pool}/clone")
    with view.image(made) as image:
        assert list(image.list_snaps()) == []


def test_a_protected_snapshot_is_not_deleted_and_the_message_says_why(
    controller: Driver, made: Volume, cluster: Cluster, pool: str
) -> None:
    taken = snapshots.create(controller, "s", made.id)
    source = f"{pool}/{made.context['imageName']}@csi-snap-s"
    cluster.rbd("snap", "protect", source)
    with refused("FAILED_PRECONDITION", "protected"):
        snapshots.delete(controller, taken.snapshot_id)
    cluster.rbd("snap", "unprotect", source)
    snapshots.delete(controller, taken.snapshot_id)


def test_a_volume_with_as_many_snapshots_as_the_kernel_maps(
    controller: Driver, view: View, made: Volume
) -> None:
    header = objects.HEADER + image_id(made)
    for snap_id in range(1, 501):  # by hand: the monitors need longer
        argument = objects.counted(f"s{snap_id}") + struct.pack("<Q", snap_id)
        view.execute(header, "snapshot_add", argument)
    with refused("RESOURCE_EXHAUSTED", "has 500 snapshots and 0 removed ones", "or copies of it"):
        snapshots.create(controller, "s", made.id)
    with refused("RESOURCE_EXHAUSTED", "has 500 snapshots"):
        volume.create(controller, "copy", size=16 * MIB, source=made.id)
    assert snapshots.get(controller, f"s1{made.id[2:]}:500").size_bytes == made.size
    request = csi_pb2.ControllerGetVolumeRequest(volume_id=made.id)
    assert controller.controller.ControllerGetVolume(request).volume.volume_id == made.id
    for snap_id in range(1, 501):
        view.execute(header, "snapshot_remove", struct.pack("<Q", snap_id))
