"""ControllerExpandVolume: the image has the size; it never shrinks, and no call harms another."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
import rados
import rbd

from e2e import driver, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import records, store
from rbdcsi.runtime import clock
from tests import faults
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_the_capabilities_are_claimed(controller: Driver) -> None:
    rpc = csi_pb2.ControllerServiceCapability.RPC
    answer = controller.controller.ControllerGetCapabilities(
        csi_pb2.ControllerGetCapabilitiesRequest()
    )
    assert rpc.EXPAND_VOLUME in {each.rpc.type for each in answer.capabilities}
    expansion = csi_pb2.PluginCapability.VolumeExpansion
    offered = controller.identity.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest())
    kinds = {each.volume_expansion.type for each in offered.capabilities}
    assert expansion.ONLINE in kinds


@pytest.mark.parametrize("size", [17 * MIB, 16 * MIB + 1, 1000 * MIB, 5 << 30])
def test_the_image_has_the_next_whole_mib(
    controller: Driver, view: View, made: Volume, size: int
) -> None:
    expected = -(-size // MIB) * MIB
    for _ in range(2):
        answer = volume.expand(controller, made, size)
        assert (answer.capacity_bytes, _size(view, made)) == (expected, expected)
        assert answer.node_expansion_required  # a filesystem is grown by a node


def test_a_volume_never_shrinks(controller: Driver, view: View, made: Volume) -> None:
    volume.expand(controller, made, 64 * MIB)
    for size in (1, 16 * MIB, 63 * MIB, 64 * MIB):  # also RecoverVolumeExpansionFailure
        assert volume.expand(controller, made, size).capacity_bytes == 64 * MIB
    assert _size(view, made) == 64 * MIB


def test_data_and_object_map_stay_right(controller: Driver, view: View, made: Volume) -> None:
    data = bytes(range(256)) * (16 * MIB // 256)
    with view.image(made, readonly=False) as image:
        image.write(data, 0)
    volume.expand(controller, made, 80 * MIB)
    assert view.content(made, 0, 16 * MIB) == data
    assert hashlib.sha256(view.content(made, 16 * MIB)).digest() == (
        hashlib.sha256(bytes(64 * MIB)).digest()
    )
    with view.image(made) as image:
        assert image.flags() == 0  # the object map is valid


@pytest.mark.parametrize(
    ("size", "limit", "code", "words"),
    [
        (0, 0, "INVALID_ARGUMENT", ["must have a bound"]),
        (-1, 0, "INVALID_ARGUMENT", ["no negative one"]),
        (32 * MIB, 24 * MIB, "OUT_OF_RANGE", ["no size is between", "at least 33554432"]),
        (0, 8 * MIB, "OUT_OF_RANGE", ["has 16777216 bytes and never shrinks"]),
        (20 * MIB + 1, 20 * MIB + 2, "OUT_OF_RANGE", ["whole MiB", "at least 22020096"]),
        (1 << 60, 0, "OUT_OF_RANGE", ["more than an image", "can have"]),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    controller: Driver, view: View, made: Volume, size: int, limit: int, code: str, words: list[str]
) -> None:
    with refused(code, *words):
        volume.expand(controller, made, size, limit=limit)
    assert _size(view, made) == 16 * MIB


def test_a_volume_that_is_not_there_is_not_found(
    controller: Driver, view: View, made: Volume
) -> None:
    gone = volume.create(controller, "gone", size=16 * MIB)
    volume.delete(controller, gone)
    with refused("NOT_FOUND", "does not exist, or is being deleted"):
        volume.expand(controller, gone, 32 * MIB)
    view.wait_until_gone(image_id(gone))
    for volume_id in ("nonsense", made.id.replace(":", ":9", 2)):
        with refused("NOT_FOUND"):
            volume.expand(controller, Volume(volume_id, made.capability), 32 * MIB)


def test_a_volume_whose_deletion_began_is_not_found(
    controller: Driver, view: View, made: Volume
) -> None:
    with _deleting(view, made), refused("NOT_FOUND", "is being deleted"):
        volume.expand(controller, made, 32 * MIB)
    assert _size(view, made) == 16 * MIB


@pytest.mark.parametrize(
    ("capability", "readonly", "attached", "needed"),
    [
        (volume.mounted(), False, False, True),
        (volume.mounted(), False, True, True),
        (volume.mounted(), True, True, False),
        (volume.mounted(mode="MULTI_NODE_READER_ONLY"), True, True, False),
        (volume.mounted(mode="MULTI_NODE_READER_ONLY"), True, False, False),
        (volume.raw(), False, False, False),
        (volume.raw(), False, True, True),
        (volume.raw(), True, True, False),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_a_node_is_asked_for_where_it_has_something_to_grow(
    controller: Driver,
    known_nodes: tuple[str, str],
    capability: csi_pb2.VolumeCapability,
    readonly: bool,
    attached: bool,
    needed: bool,
    told: bool,
) -> None:
    made = volume.create(controller, "node", size=16 * MIB, capability=capability)
    try:
        if attached:
            volume.attach(controller, made, known_nodes[0], readonly=readonly)
        request = csi_pb2.ControllerExpandVolumeRequest(
            volume_id=made.id,
            capacity_range=csi_pb2.CapacityRange(required_bytes=32 * MIB),
            volume_capability=capability if told else None,
        )
        if not told and not attached and readonly:
            needed = True  # it is not known then that it is only read
        for _ in range(2):
            answer = controller.controller.ControllerExpandVolume(request)
            assert answer.node_expansion_required is needed
    finally:
        volume.detach(controller, made, "")
        volume.delete(controller, made)


def test_an_unmanaged_image_grows_too(controller: Driver, view: View, made: Volume) -> None:
    rbd.RBD().create(view.ioctx, "by-hand", 16 * MIB + 512, old_format=False, features=1)
    with rbd.Image(view.ioctx, "by-hand") as image:
        found = image.id()
    static = Volume(made.id.replace(image_id(made), found), made.capability)
    try:
        assert volume.expand(controller, static, 16 * MIB).capacity_bytes == 16 * MIB + 512
        assert volume.expand(controller, static, 20 * MIB).capacity_bytes == 20 * MIB
        assert _size(view, static) == 20 * MIB
    finally:
        rbd.RBD().remove(view.ioctx, "by-hand")
        store.Records(view.ioctx).change(found, lambda _record: None)


def test_of_many_calls_at_two_controllers_the_largest_size_stays(
    controller: Driver, installation: driver.Installation, view: View, made: Volume
) -> None:
    other = installation.controller("other").start()
    sizes = [n * MIB for n in range(20, 44)]
    lost: list[str] = []

    def expand(number: int) -> None:
        while True:
            try:
                answer = volume.expand((controller, other)[number % 2], made, sizes[number])
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.ABORTED:  # another call is at it
                    lost.append(str(error))
                    return
                continue
            if answer.capacity_bytes < sizes[number]:
                lost.append(f"{answer.capacity_bytes} for {sizes[number]}")
            return

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(expand, range(len(sizes))))
    other.stop()
    assert lost == []
    assert _size(view, made) == max(sizes)


@pytest.mark.parametrize("step", ["expand.record", "expand.image"])
def test_a_call_killed_on_its_way_is_finished_by_another_controller(
    installation: driver.Installation,
    controller: Driver,
    view: View,
    cluster: Cluster,
    made: Volume,
    step: str,
) -> None:
    mortal = installation.controller(f"dies-{step}").start(kill_after=step)
    with refused("UNAVAILABLE"):
        volume.expand(mortal, made, 32 * MIB)
    mortal.wait_for_death()
    mortal.stop()
    if step == "expand.record":
        with refused("ABORTED", "is being grown to 33554432 bytes by client"):
            volume.expand(controller, made, 20 * MIB)  # the dead one might be only slow
    growth = view.record(made).growth
    assert growth
    volume.until_let_through(lambda: _expect(controller, made, 32 * MIB))
    blocked = growth.client in cluster.ceph("osd", "blocklist", "ls")
    assert blocked is (step == "expand.record")
    if blocked:
        cluster.ceph("osd", "blocklist", "rm", growth.client)


def test_a_client_that_does_not_finish_can_shrink_nothing_later(
    controller: Driver, view: View, made: Volume, cluster: Cluster
) -> None:
    with cluster.connection() as stopped, stopped.open_ioctx(_pool(view)) as ioctx:
        stopped.wait_for_latest_osdmap()
        growth = records.Growth(str(stopped.get_addrs()), 24 * MIB, "2026-01-01T00:00:00+00:00")
        with rbd.Image(ioctx, image_id=image_id(made)) as image:
            store.Records(view.ioctx).change(
                image_id(made), lambda record: dataclasses.replace(record, growth=growth)
            )
            _expect(controller, made, 64 * MIB)
            try:
                with pytest.raises((rbd.Error, rados.Error)):
                    image.resize(24 * MIB)
            finally:
                cluster.ceph("osd", "blocklist", "rm", growth.client)
    assert _size(view, made) == 64 * MIB


def test_a_call_that_dies_after_it_ended_another_process_is_repeated(
    installation: driver.Installation,
    controller: Driver,
    view: View,
    cluster: Cluster,
    made: Volume,
) -> None:
    growth = records.Growth("127.0.0.1:0/4242", 24 * MIB, "2026-01-01T00:00:00+00:00")
    store.Records(view.ioctx).change(
        image_id(made), lambda record: dataclasses.replace(record, growth=growth)
    )
    mortal = installation.controller("dies-late").start(kill_after="expand.blocklist")
    with refused("UNAVAILABLE"):
        volume.expand(mortal, made, 64 * MIB)
    mortal.wait_for_death()
    mortal.stop()
    _expect(controller, made, 64 * MIB)
    cluster.ceph("osd", "blocklist", "rm", growth.client)


def test_a_growth_that_is_finished_hinders_none(
    controller: Driver, view: View, made: Volume
) -> None:
    growth = records.Growth("127.0.0.1:0/1", 16 * MIB, clock.now())
    store.Records(view.ioctx).change(
        image_id(made), lambda record: dataclasses.replace(record, growth=growth)
    )
    _expect(controller, made, 64 * MIB)


def test_a_client_that_has_the_image_open_resizes_it_and_keeps_its_lock(
    controller: Driver, view: View, made: Volume
) -> None:
    with view.image(made, readonly=False) as image:
        image.write(b"x" * MIB, 0)  # takes the lock
        image.flush()
        owners = list(image.lock_get_owners())
        assert owners
        assert volume.expand(controller, made, 48 * MIB).capacity_bytes == 48 * MIB
        assert image.size() == 48 * MIB
        assert list(image.lock_get_owners()) == owners
        image.write(b"y" * MIB, 47 * MIB)
    assert view.content(made, 47 * MIB, MIB) == b"y" * MIB


def test_a_writer_goes_on_while_the_image_grows(
    controller: Driver, view: View, made: Volume
) -> None:
    ended, written = threading.Event(), list[int]()

    def write() -> None:
        with view.image(made, readonly=False) as image:
            while not ended.is_set():
                number = len(written)
                image.write(number.to_bytes(8, "little") * 512, number % 4096 * 4096)
                written.append(number)

    def require_progress() -> None:
        before = len(written)
        commands.wait_until(lambda: len(written) > before, "the writer has written", pause=0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        require_progress()
        for size in range(20 * MIB, 60 * MIB, 4 * MIB):
            assert volume.expand(controller, made, size).capacity_bytes == size
            require_progress()
    finally:
        ended.set()
        writer.join()
    last = {number % 4096: number for number in written}
    with view.image(made) as image:
        for place, number in last.items():
            assert image.read(place * 4096, 8) == number.to_bytes(8, "little")


@pytest.mark.parametrize("whole_cluster", [False, True])
def test_a_full_pool_lets_a_volume_grow(
    controller: Driver,
    view: View,
    made: Volume,
    cluster: Cluster,
    admin: rados.Rados,
    whole_cluster: bool,
) -> None:
    """Growth takes no space: Ceph lets the header and the object map be changed."""
    with faults.full(cluster, None if whole_cluster else _pool(view)):
        view.tell_osd_the_newest_map(admin)
        _expect(controller, made, 32 * MIB)


def _expect(controller: Driver, made: Volume, size: int) -> None:
    answer = volume.expand(controller, made, size)
    assert (answer.capacity_bytes, answer.node_expansion_required) == (size, True)


def _pool(view: View) -> str:
    return str(view.ioctx.get_pool_name())


@contextlib.contextmanager
def _deleting(view: View, made: Volume) -> Iterator[None]:
    def change(since: str | None) -> None:
        store.Records(view.ioctx).change(
            image_id(made), lambda record: dataclasses.replace(record, deleting=since)
        )

    change("2026-01-01T00:00:00+00:00")
    try:
        yield
    finally:
        change(None)


def _size(view: View, made: Volume) -> int:
    with view.image(made) as image:
        return int(image.size())
