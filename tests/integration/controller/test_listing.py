"""ListVolumes, ControllerGetVolume, ValidateVolumeCapabilities and GetCapacity."""

import base64
from collections.abc import Iterator, Sequence

import pytest
import rados
import rbd

from e2e import driver, volume
from e2e.clusters import Cluster
from e2e.driver import CLUSTER_ID, Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store
from rbdcsi.model.ids import LocationId, VolumeHandle
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def further_pools(second_pool: str) -> Sequence[str]:
    return (second_pool,)


@pytest.fixture(scope="module")
def places(cluster: Cluster, pool: str, second_pool: str) -> list[dict[str, str]]:
    """Give the parameters of three places: two pools, and a RADOS namespace."""
    cluster.rbd("namespace", "create", f"{pool}/tenant")
    return [{}, {"radosNamespace": "tenant"}, {"pool": second_pool}]


@pytest.fixture
def volumes(controller: Driver, places: list[dict[str, str]]) -> Iterator[list[Volume]]:
    made = [
        volume.create(controller, f"v-{number}", size=16 * MIB, parameters=place)
        for place in places
        for number in range(3)
    ]
    yield made
    for each in made:
        volume.detach(controller, each, "")
        volume.delete(controller, each)


@pytest.fixture
def static(cluster: Cluster, admin: rados.Rados, second_pool: str) -> Iterator[Volume]:
    """Give an image that another program made, in a namespace where the driver made none."""
    cluster.rbd("namespace", "create", f"{second_pool}/by-hand")
    with admin.open_ioctx(second_pool) as ioctx:
        ioctx.set_namespace("by-hand")
        rbd.RBD().create(ioctx, "image", 16 * MIB, old_format=False)
        with rbd.Image(ioctx, "image") as image:
            location = LocationId(CLUSTER_ID, ioctx.get_pool_id(), "by-hand")
            handle = VolumeHandle(location, image.id())
        yield Volume(str(handle), volume.mounted())
        store.Records(ioctx).change(handle.image_id, lambda _: None)
        rbd.RBD().remove(ioctx, "image")


def _list(controller: Driver, most: int = 0, token: str = "") -> csi_pb2.ListVolumesResponse:
    request = csi_pb2.ListVolumesRequest(max_entries=most, starting_token=token)
    return controller.controller.ListVolumes(request)


def _ids(answer: csi_pb2.ListVolumesResponse) -> list[str]:
    return [entry.volume.volume_id for entry in answer.entries]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 8, 9, 10])
def test_pages_together_have_each_volume_once(
    controller: Driver, volumes: list[Volume], most: int
) -> None:
    seen: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        answer = _list(controller, most, token)
        assert len(answer.entries) <= (most or 9)
        seen += _ids(answer)
        token, pages = answer.next_token, pages + 1
    assert sorted(seen) == sorted(made.id for made in volumes)
    assert pages == (1 if not most else -(-9 // most))


def test_nothing_is_listed_when_there_is_nothing(controller: Driver) -> None:
    answer = _list(controller, 5)
    assert not answer.entries
    assert not answer.next_token


def test_stable_volumes_are_all_listed_while_others_come_and_go(
    controller: Driver, volumes: list[Volume]
) -> None:
    first = _list(controller, 4)
    gone = volumes.pop(3)  # the last of the first page, where the token points to
    assert _ids(first)[-1] == gone.id
    volume.delete(controller, gone)
    volumes.append(volume.create(controller, "a-new-one", size=16 * MIB))
    rest = _list(controller, 0, first.next_token)
    stable = {made.id for made in volumes[:-1]}
    assert set(_ids(first) + _ids(rest)) >= stable
    assert len(_ids(first) + _ids(rest)) == len(set(_ids(first) + _ids(rest)))


@pytest.mark.parametrize(
    "token",
    ["garbage", "%%%", base64.urlsafe_b64encode(b"[1]").decode(), "é", "A" * 5000, "bnVsbA=="],
)
def test_a_token_of_another_making_is_refused(
    controller: Driver, volumes: list[Volume], token: str
) -> None:
    assert volumes
    with refused("ABORTED", "starting_token", "list from the start again"):
        _list(controller, 1, token)


def test_a_negative_number_of_entries_is_refused(controller: Driver) -> None:
    with refused("INVALID_ARGUMENT", "max_entries is -1"):
        _list(controller, -1)


def test_published_nodes_are_listed_and_got(
    controller: Driver, known_nodes: tuple[str, str], volumes: list[Volume]
) -> None:
    capability = volume.raw("MULTI_NODE_READER_ONLY")
    for made in volumes[::2]:
        for node_id in known_nodes:
            volume.attach(controller, Volume(made.id, capability), node_id)
    listed = {
        entry.volume.volume_id: list(entry.status.published_node_ids)
        for entry in _list(controller).entries
    }
    attached = {made.id for made in volumes[::2]}
    expected = {made.id: list(known_nodes) if made.id in attached else [] for made in volumes}
    assert listed == expected
    for made in volumes:
        got = _get(controller, made)
        assert (got.volume.volume_id, got.volume.capacity_bytes) == (made.id, made.size)
        assert list(got.status.published_node_ids) == expected[made.id]


def test_images_of_others_are_not_listed(
    controller: Driver, view: View, volumes: list[Volume]
) -> None:
    rbd.RBD().create(view.ioctx, "somebody-elses", MIB, old_format=False)
    try:
        assert sorted(_ids(_list(controller))) == sorted(made.id for made in volumes)
    finally:
        rbd.RBD().remove(view.ioctx, "somebody-elses")


def test_an_image_of_others_is_listed_with_its_nodes_while_it_is_attached(
    controller: Driver,
    known_nodes: tuple[str, str],
    volumes: list[Volume],
    static: Volume,
) -> None:
    ours = {made.id for made in volumes}
    assert set(_ids(_list(controller))) == ours
    volume.attach(controller, static, known_nodes[0])
    nodes = {
        entry.volume.volume_id: list(entry.status.published_node_ids)
        for entry in _list(controller).entries
    }
    assert nodes == {volume_id: [] for volume_id in ours} | {static.id: [known_nodes[0]]}
    volume.detach(controller, static, known_nodes[0])
    assert set(_ids(_list(controller))) == ours


def test_a_second_controller_lists_what_the_first_made(
    installation: driver.Installation, controller: Driver, volumes: list[Volume]
) -> None:
    other = installation.controller("other").start()
    assert _ids(_list(other)) == _ids(_list(controller))
    assert len(volumes) == len(_ids(_list(other)))
    other.stop()


@pytest.mark.parametrize("garbage", [b"{", b"", b"\xff\xfe", b'{"version":2}', b"[]"])
def test_a_damaged_record_is_an_error_and_other_volumes_go_on(
    controller: Driver,
    known_nodes: tuple[str, str],
    view: View,
    made: Volume,
    garbage: bytes,
) -> None:
    _write_record(view, made, garbage)
    words = (f"key {image_id(made)}", "rbdcsi.attachments.")
    try:
        with refused("INTERNAL", *words):
            volume.attach(controller, made, known_nodes[0])
        with refused("INTERNAL", *words):
            volume.detach(controller, made, known_nodes[0])
        with refused("INTERNAL", *words):
            volume.delete(controller, made)
        with refused("INTERNAL", *words):
            _list(controller)  # a list without its nodes would be a lie
        assert _read_record(view, made) == garbage
        other = volume.create(controller, "healthy", size=16 * MIB)
        volume.attach(controller, other, known_nodes[0])
        volume.detach(controller, other, known_nodes[0])
        volume.delete(controller, other)
        view.wait_until_gone(image_id(other))
        assert view.attached_to(known_nodes[0]) == frozenset()
    finally:
        _write_record(view, made, None)


@pytest.mark.parametrize("volume_id", ["nonsense", "v1:local:{pool}::123456", "v1:other:1::a"])
def test_a_volume_that_does_not_exist_cannot_be_got(
    controller: Driver, view: View, volume_id: str
) -> None:
    missing = Volume(volume_id.format(pool=view.ioctx.get_pool_id()), volume.mounted())
    with refused("NOT_FOUND", "does not exist"):
        _get(controller, missing)
    with refused("NOT_FOUND", "does not exist"):
        _validate(controller, missing, volume.mounted())


def test_capabilities_are_confirmed_with_all_that_was_asked(
    controller: Driver, made: Volume
) -> None:
    asked = [volume.mounted("ext4"), volume.mounted(""), volume.raw("MULTI_NODE_MULTI_WRITER")]
    answer = _validate(controller, made, *asked)
    assert list(answer.confirmed.volume_capabilities) == asked
    assert not answer.message


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        (volume.mounted("xfs"), "is for ext4, requested is xfs"),
        (volume.mounted("vfat"), "'vfat' is not supported"),
        (volume.mounted(mode="MULTI_NODE_MULTI_WRITER"), "would destroy it"),
    ],
)
def test_capabilities_that_cannot_be_are_not_confirmed_and_it_is_said_why(
    controller: Driver, made: Volume, capability: csi_pb2.VolumeCapability, words: str
) -> None:
    answer = _validate(controller, made, capability)
    assert not answer.HasField("confirmed")
    assert words in answer.message


def test_validation_needs_capabilities(controller: Driver, made: Volume) -> None:
    with refused("INVALID_ARGUMENT", "volume_capabilities is missing"):
        _validate(controller, made)


def _get(controller: Driver, made: Volume) -> csi_pb2.ControllerGetVolumeResponse:
    return controller.controller.ControllerGetVolume(
        csi_pb2.ControllerGetVolumeRequest(volume_id=made.id)
    )


def _validate(
    controller: Driver, made: Volume, *asked: csi_pb2.VolumeCapability
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    return controller.controller.ValidateVolumeCapabilities(
        csi_pb2.ValidateVolumeCapabilitiesRequest(volume_id=made.id, volume_capabilities=asked)
    )


def _shard(made: Volume) -> str:
    return store.object_name(image_id(made))


def _write_record(view: View, made: Volume, value: bytes | None) -> None:
    with rados.WriteOpCtx() as operation:
        if value is None:
            view.ioctx.remove_omap_keys(operation, (image_id(made),))
        else:
            view.ioctx.set_omap(operation, (image_id(made),), (value,))
        view.ioctx.operate_write_op(operation, _shard(made))


def _read_record(view: View, made: Volume) -> bytes:
    with rados.ReadOpCtx() as operation:
        found, _ = view.ioctx.get_omap_vals_by_keys(operation, (image_id(made),))
        view.ioctx.operate_read_op(operation, _shard(made))
        ((_, value),) = list(found)
        return value or b""  # the bindings say None of an empty value
