"""Group snapshots through the driver's socket."""

import contextlib
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence

import grpc
import pytest
import rados
import rbd

from e2e import groups, snapshots, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.ceph import objects
from rbdcsi.model import format_mark
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.snapshots import limit
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left", "stopped_after")


@pytest.fixture(scope="module")
def further_pools(second_pool: str) -> Sequence[str]:
    return (second_pool,)


def _two(controller: Driver) -> list[Volume]:
    return [volume.create(controller, f"v{number}", size=16 * MIB) for number in range(2)]


@pytest.fixture
def volumes(controller: Driver) -> Iterator[list[Volume]]:
    made = _two(controller)
    yield made
    for each in made:
        volume.delete(controller, each)


def _names(view: View, made: Volume) -> list[str]:
    with view.image(made) as image:
        return [each["name"] for each in image.list_snaps()]


def _ids(volumes: Sequence[Volume]) -> list[str]:
    return [each.id for each in volumes]


def test_a_group_snapshot_and_its_members(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    group = groups.create(controller, "g", _ids(volumes))
    assert groups.create(controller, "g", _ids(volumes)[::-1]) == group
    assert groups.get(controller, group.group_snapshot_id) == group
    assert group.ready_to_use
    members = sorted(group.snapshots, key=lambda each: each.snapshot_id)
    assert {each.source_volume_id for each in members} == set(_ids(volumes))
    assert {each.group_snapshot_id for each in members} == {group.group_snapshot_id}
    assert max(each.creation_time.ToNanoseconds() for each in members) == (
        group.creation_time.ToNanoseconds()
    )
    listed = sorted(snapshots.listed(controller), key=lambda each: each.snapshot_id)
    assert listed == members
    assert [snapshots.get(controller, each.snapshot_id) for each in members] == members
    assert all(name.startswith("csi-snap-g.") for each in volumes for name in _names(view, each))
    with refused("INVALID_ARGUMENT", "member of group snapshot", group.group_snapshot_id):
        snapshots.delete(controller, members[0].snapshot_id)
    alone = snapshots.create(controller, "g", volumes[0].id)  # the name of a snapshot is another's
    assert alone.group_snapshot_id == ""
    ids = [each.snapshot_id for each in members]
    with refused("INVALID_ARGUMENT", "its members are"):
        groups.delete(controller, group.group_snapshot_id, [alone.snapshot_id, ids[1]])
    with refused("INVALID_ARGUMENT", "its members are"):
        groups.get(controller, group.group_snapshot_id, ids[:1])
    groups.delete(controller, group.group_snapshot_id, ids)
    groups.delete(controller, group.group_snapshot_id, ids)
    with refused("NOT_FOUND"):
        groups.get(controller, group.group_snapshot_id)
    assert list(snapshots.listed(controller)) == [alone]
    snapshots.delete(controller, alone.snapshot_id)
    again = groups.create(controller, "g", _ids(volumes)[:1])
    assert again.group_snapshot_id != group.group_snapshot_id
    groups.delete(controller, group.group_snapshot_id)  # the old one's id
    assert groups.get(controller, again.group_snapshot_id) == again
    groups.delete(controller, again.group_snapshot_id)


def test_a_volume_is_made_from_a_member_and_outlives_the_group(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    with view.image(volumes[1], readonly=False) as image:
        image.write(b"before", 0)
    group = groups.create(controller, "g", _ids(volumes))
    with view.image(volumes[1], readonly=False) as image:
        image.write(b"behind", 0)
    (member,) = (each for each in group.snapshots if each.source_volume_id == volumes[1].id)
    restored = controller.controller.CreateVolume(
        csi_pb2.CreateVolumeRequest(
            name="restored",
            capacity_range=csi_pb2.CapacityRange(required_bytes=16 * MIB),
            volume_capabilities=[volume.mounted()],
            volume_content_source=csi_pb2.VolumeContentSource(
                snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=member.snapshot_id)
            ),
        )
    ).volume
    groups.delete(controller, group.group_snapshot_id)
    made = Volume(restored.volume_id, volume.mounted())
    with view.image(made) as image:
        assert image.read(0, 6) == b"before"
    volume.delete(controller, made)


def test_volumes_in_namespaces_of_one_pool(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    namespace = f"ns-{uuid.uuid4().hex[:8]}"
    rbd.RBD().namespace_create(view.ioctx, namespace)
    parameters = {"radosNamespace": namespace}
    other = volume.create(controller, "v", size=16 * MIB, parameters=parameters)
    group = groups.create(controller, "g", [*_ids(volumes), other.id])
    assert len(group.snapshots) == 3
    groups.delete(controller, group.group_snapshot_id)
    volume.delete(controller, other)
    _remove_namespace(view, namespace)


def test_a_volume_with_as_many_snapshots_as_it_may_have_keeps_the_group_from_being_taken(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    header = objects.HEADER + image_id(volumes[1])

    def each_snapshot(method: str) -> None:  # by hand: the monitors need longer
        for snap_id in range(1, limit.MOST + 1):
            text = objects.counted(f"s{snap_id}") if method == "snapshot_add" else b""
            with rados.WriteOpCtx() as op:
                op.execute("rbd", method, text + struct.pack("<Q", snap_id))
                view.ioctx.operate_write_op(op, header)

    each_snapshot("snapshot_add")
    with refused("RESOURCE_EXHAUSTED", volumes[1].id, f"has {limit.MOST} snapshots"):
        groups.create(controller, "full", _ids(volumes))
    assert _names(view, volumes[0]) == []
    each_snapshot("snapshot_remove")  # `nothing_left` counts records


def test_what_is_refused(
    controller: Driver, view: View, second_pool: str, volumes: list[Volume]
) -> None:
    elsewhere = volume.create(controller, "e", size=16 * MIB, parameters={"pool": second_pool})
    with refused("FAILED_PRECONDITION", "2 pools"):
        groups.create(controller, "g", [volumes[0].id, elsewhere.id])
    volume.delete(controller, elsewhere)
    with refused("INVALID_ARGUMENT", "source_volume_ids is missing"):
        groups.create(controller, "g", [])
    with refused("INVALID_ARGUMENT", "name is missing"):
        groups.create(controller, "", _ids(volumes))
    with refused("INVALID_ARGUMENT", "twice"):
        groups.create(controller, "g", [volumes[0].id] * 2)
    with refused("INVALID_ARGUMENT", "clusterID"):
        groups.create(controller, "g", _ids(volumes), parameters={"clusterID": "other"})
    with refused("NOT_FOUND"):
        groups.create(controller, "g", [volumes[0].id, f"{volumes[0].id}0"])
    with refused("INVALID_ARGUMENT", "group_snapshot_id is missing"):
        groups.delete(controller, "")
    with refused("NOT_FOUND", "a group_snapshot_id of this driver reads"):
        groups.get(controller, "g")
    groups.delete(controller, "g")
    group = groups.create(controller, "g", _ids(volumes))
    with refused("ALREADY_EXISTS", "group snapshot 'g' is one of volumes"):
        groups.create(controller, "g", _ids(volumes)[:1])
    with view.image(volumes[0], readonly=False) as image:
        (name,) = _names(view, volumes[0])
        image.remove_snap(name)
    with refused("NOT_FOUND", "removed by another program"):
        groups.get(controller, group.group_snapshot_id)
    groups.delete(controller, group.group_snapshot_id)
    assert [_names(view, each) for each in volumes] == [[], []]


def test_a_snapshot_of_another_program_is_left_alone(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    name = f"csi-snap-g.{image_id(volumes[1])}"
    with view.image(volumes[1], readonly=False) as image:
        image.create_snap(name)
        with refused("ALREADY_EXISTS", name, "another program made it"):
            groups.create(controller, "g", _ids(volumes))
        assert [_names(view, each) for each in volumes] == [[], [name]]
        image.remove_snap(name)
    group = groups.create(controller, "g", _ids(volumes))
    groups.delete(controller, group.group_snapshot_id)


def test_an_image_without_exclusive_lock_is_refused(controller: Driver) -> None:
    made = volume.create(
        controller, "plain", size=16 * MIB, parameters={"imageFeatures": "layering"}
    )
    with refused("FAILED_PRECONDITION", "exclusive-lock"):
        groups.create(controller, "g", [made.id])
    volume.delete(controller, made)


def test_a_client_that_keeps_its_lock_is_left_alone(
    cluster: Cluster, controller: Driver, view: View, pool: str, volumes: list[Volume]
) -> None:
    with cluster.connection() as client, client.open_ioctx(pool) as ioctx:
        with rbd.Image(ioctx, volumes[1].context["imageName"]) as image:
            image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
            with refused("FAILED_PRECONDITION", "keeps it"):
                groups.create(controller, "g", _ids(volumes))
            assert image.is_exclusive_lock_owner()
            assert [_names(view, each) for each in volumes] == [[], []]
        with view.image(volumes[0], readonly=False) as image:
            image.write(b"x", 0)  # nothing is held
    group = groups.create(controller, "g", _ids(volumes))
    groups.delete(controller, group.group_snapshot_id)


def _die(controller: Driver, step: str, call: Callable[[], object]) -> None:
    """Make the call at a controller that dies right after the step."""
    controller.stop()
    controller.start(kill_after=step)
    with refused("UNAVAILABLE"):
        call()
    controller.wait_for_death()
    controller.stop()


def _created(controller: Driver, made: Sequence[Volume]) -> csi_pb2.VolumeGroupSnapshot:
    """Create the group, again and again while a dead controller has a lock, as a sidecar would."""
    created: list[csi_pb2.VolumeGroupSnapshot] = []

    def succeeded() -> bool:
        try:
            created.append(groups.create(controller, "g", _ids(made)))
        except grpc.RpcError as error:
            if "did not hand the exclusive lock over" in str(error):
                return False
            raise
        return True

    commands.wait_until(succeeded, "Ceph has dropped the dead controller", 120)
    return created[0]


@pytest.mark.parametrize(
    "step", ["group.reserve", "group.hold", "group.take", "group.record", "group.confirm"]
)
def test_a_killed_creation_is_finished_by_the_repeated_call(
    mortal: Driver, view: View, step: str
) -> None:
    made = _two(mortal.start())
    _die(mortal, step, lambda: groups.create(mortal, "g", _ids(made)))
    mortal.start()
    group = _created(mortal, made)
    for each in made:
        with view.image(each, readonly=False) as image:
            image.write(b"x", 0)  # nothing is held
    assert groups.create(mortal, "g", _ids(made)) == group
    assert [len(_names(view, each)) for each in made] == [1, 1]
    assert len(list(snapshots.listed(mortal))) == 2
    groups.delete(mortal, group.group_snapshot_id)
    _delete(mortal, view, made)


def test_a_member_has_the_mark_of_its_content_after_a_killed_creation_and_a_rollback(
    mortal: Driver, view: View
) -> None:
    made = _two(mortal.start())
    formatted, formatting = Mark(Phase.FORMATTED, "ext4"), Mark(Phase.FORMATTING, "ext4")
    _set_mark(view, made[0], formatted)
    _die(mortal, "group.record", lambda: groups.create(mortal, "g", _ids(made)))
    _set_mark(view, made[0], formatting)  # it was rolled back, and mkfs was cut off
    mortal.start()
    group = _created(mortal, made)
    (taken,) = (each for each in group.snapshots if each.source_volume_id == made[0].id)
    copy = volume.create(mortal, "copy", size=made[0].size, source=taken.snapshot_id)
    with view.image(copy) as image:
        mark = format_mark.read_mark(image.metadata_get(format_mark.KEY), "copy")
    assert mark
    assert mark.phase is Phase.FORMATTED
    groups.delete(mortal, group.group_snapshot_id)
    _delete(mortal, view, [copy, *made])


def _set_mark(view: View, made: Volume, mark: Mark) -> None:
    with view.image(made, readonly=False) as image:
        image.metadata_set(format_mark.KEY, format_mark.MARK.encode(mark))


def test_a_creation_that_is_killed_while_it_removes_the_first_attempt_is_finished(
    mortal: Driver, view: View
) -> None:
    made = _two(mortal.start())
    _die(mortal, "group.take", lambda: groups.create(mortal, "g", _ids(made)))
    _die(mortal, "group.undo", lambda: groups.create(mortal, "g", _ids(made)))
    assert sorted(len(_names(view, each)) for each in made) == [0, 1]
    group = _created(mortal.start(), made)
    assert [len(_names(view, each)) for each in made] == [1, 1]
    assert len(list(snapshots.listed(mortal))) == 2
    groups.delete(mortal, group.group_snapshot_id)
    _delete(mortal, view, made)


@pytest.mark.parametrize("step", ["group.reserve", "group.take"])
def test_a_killed_creation_goes_with_its_volumes(mortal: Driver, view: View, step: str) -> None:
    made = _two(mortal.start())
    _die(mortal, step, lambda: groups.create(mortal, "g", _ids(made)))
    _delete(mortal.start(), view, made)
    mortal.start()
    with refused("NOT_FOUND"):
        groups.create(mortal, "g", _ids(made))
    mortal.stop()


@pytest.mark.parametrize("step", ["group.remove", "group.forget", "group.delete"])
def test_a_killed_deletion_is_finished_by_the_repeated_call(
    mortal: Driver, view: View, step: str
) -> None:
    made = _two(mortal.start())
    group = groups.create(mortal, "g", _ids(made))
    _die(mortal, step, lambda: groups.delete(mortal, group.group_snapshot_id))
    groups.delete(mortal.start(), group.group_snapshot_id)
    assert [_names(view, each) for each in made] == [[], []]
    assert list(snapshots.listed(mortal)) == []
    _delete(mortal, view, made)


def _delete(controller: Driver, view: View, made: Sequence[Volume]) -> None:
    """Delete the volumes, and stop the controller when it has removed their data."""
    for each in made:
        volume.delete(controller, each)
    for each in made:
        view.wait_until_gone(image_id(each))
    controller.stop()


def _remove_namespace(view: View, namespace: str) -> None:
    """Remove a namespace as soon as its deleted volume's data is gone."""

    def removed() -> bool:
        with contextlib.suppress(rbd.ImageBusy):
            rbd.RBD().namespace_remove(view.ioctx, namespace)
            return True
        return False

    commands.wait_until(removed, "the namespace is empty", 120)
