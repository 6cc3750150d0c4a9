"""A creation that was cut off inside librbd: what is left is removed, and the image made again."""

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent import futures

import pytest
import rados
import rbd

from e2e import leftovers, volume
from e2e.clusters import Cluster, commands
from e2e.driver import CLUSTER_ID, Driver
from e2e.volume import MIB
from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import connections, creation, names, objects
from rbdcsi.ceph.locations import Locations
from rbdcsi.config import clusters_file
from rbdcsi.model import ids, storage_class
from rbdcsi.volumes import interrupted, spec
from rbdcsi.volumes.create import Provisioner, Volume
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request
from tests import dying
from tests.integration.controller import half_made
from tests.integration.controller.half_made import RESTS, Rest
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
FOR_EVER = 1e9
KILLS = 12

# Creates the image that its standard input names.
CREATOR = """
import sys, rados, rbd
conf, user, keyring, pool = sys.argv[1:]
with rados.Rados(name=f"client.{user}", conffile=conf, conf={"keyring": keyring}) as cluster:
    with cluster.open_ioctx(pool) as ioctx:
        rbd.RBD().list(ioctx)
        print("ready", flush=True)
        name = sys.stdin.readline().strip()
        rbd.RBD().create(ioctx, name, 64 << 20, old_format=False, features=61)
"""

# Takes a creation for cut off at once.
_CREATE = """
from rbdcsi.ceph.locations import Locations
from rbdcsi.model import storage_class
from rbdcsi.volumes.create import Provisioner
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request

provisioner = Provisioner(pooled, Placement(pooled, Locations(pooled)), creation_seconds=0)
parameters = storage_class.parse({"clusterID": sys.argv[2]})
provisioner.create(Request("twice", 64 << 20, 0, "ext4", parameters))
"""

Create = Callable[[str, Mapping[str, str]], Volume]


@pytest.fixture
def creating(controller: Driver) -> Callable[[float], Create]:
    """Give a maker of controllers that take a creation for cut off after so many seconds."""
    configured = clusters_file.load(controller.config)

    def make(seconds: float) -> Create:
        pooled = connections.Connections(configured, timeout=10)
        provisioner = Provisioner(
            pooled, Placement(pooled, Locations(pooled)), creation_seconds=seconds
        )

        def create(name: str, parameters: Mapping[str, str]) -> Volume:
            parsed = storage_class.parse({"clusterID": CLUSTER_ID, **parameters})
            return provisioner.create(Request(name, SIZE, 0, "ext4", parsed))

        return create

    return make


def _delete(controller: Driver, view: View, *made: Volume) -> None:
    for each in made:
        volume.delete(controller, volume.Volume(str(each.handle), volume.mounted()))
    for each in made:
        view.wait_until_gone(each.handle.image_id)


def _everything(view: View) -> dict[str, object]:
    """Return every object of images with its bytes and its omap."""
    content: dict[str, object] = {}
    of_location = ("rbdcsi.", objects.TRASH)  # made with the first volume
    every = [each.key for each in view.ioctx.list_objects()]
    for name in sorted(each for each in every if not each.startswith(of_location)):
        with contextlib.suppress(rados.ObjectNotFound), rados.ReadOpCtx() as operation:
            values, _ = view.ioctx.get_omap_vals(operation, "", "", 1000)
            view.ioctx.operate_read_op(operation, name)  # only snapshots have a discarded object
            content[name] = (view.ioctx.read(name), dict(values))
    return content


@pytest.mark.parametrize("rest", RESTS.values(), ids=RESTS)
def test_image_of_a_creation_cut_off_is_made_again(
    controller: Driver, view: View, creating: Callable[[float], Create], rest: Rest
) -> None:
    image_id = half_made.leave(view, "csi-again", SIZE, rest)
    made = creating(0)("again", rest.parameters)
    assert made.handle.image_id != image_id
    assert view.objects_of(image_id) == []
    assert {each["id"] for each in rbd.RBD().list2(view.ioctx)} == {made.handle.image_id}
    traces = creation.read(view.ioctx, "csi-again")
    assert (creation.contradiction(traces), creation.missing(traces)) == (None, None)
    assert volume.create(controller, "again", parameters=rest.parameters).id == str(made.handle)
    with rbd.Image(view.ioctx, "csi-again") as image:
        image.write(b"data", SIZE - 4)
        assert image.flags() == 0
    _delete(controller, view, made)


def test_image_whose_removal_was_cut_off_is_made_again(
    controller: Driver, view: View, creating: Callable[[float], Create]
) -> None:
    image_id = half_made.leave(view, "csi-twice", SIZE, RESTS["header"])
    dying.in_work(_CREATE, controller.config, "create.removed")
    assert view.objects_of(image_id) == []
    _delete(controller, view, creating(0)("twice", {}))


def test_directory_entry_alone_does_not_block_the_name(
    controller: Driver, view: View, creating: Callable[[float], Create]
) -> None:
    entry = objects.counted("csi-entry") + objects.counted("1234abcd")
    half_made.execute(view, "dir_add_image", entry)
    with refused("ABORTED", "csi-entry is being created", "no header yet", "created again"):
        volume.create(controller, "entry")
    _delete(controller, view, creating(0)("entry", {}))


def test_image_that_lacks_its_record_of_mirroring_is_made_again(
    controller: Driver, view: View, creating: Callable[[float], Create], cluster: Cluster
) -> None:
    half_made.leave(view, "csi-mirrored", SIZE, Rest(half_made.JOURNAL))
    pool = view.ioctx.get_pool_name()
    # Enabled this way, mirroring begins with the next image.
    half_made.execute(view, "mirror_uuid_set", objects.counted("a-site"), "rbd_mirroring")
    half_made.execute(view, "mirror_mode_set", b"\x02\0\0\0", "rbd_mirroring")
    try:
        made = creating(0)("mirrored", half_made.JOURNAL)
        assert creation.missing(creation.read(view.ioctx, "csi-mirrored")) is None
        assert "csi-mirrored" in cluster.rbd("mirror", "pool", "status", pool, "--verbose")
        _delete(controller, view, made)
    finally:
        cluster.rbd("mirror", "pool", "disable", pool)


@pytest.mark.parametrize("rest", RESTS.values(), ids=RESTS)
def test_creation_that_may_be_under_way_is_left_alone(
    controller: Driver, view: View, creating: Callable[[float], Create], rest: Rest
) -> None:
    half_made.leave(view, "csi-young", SIZE, rest)
    before = _everything(view)
    create = creating(FOR_EVER)
    for _ in range(2):
        with pytest.raises(errors.Busy, match="is being created by another process"):
            create("young", rest.parameters)
    with refused("ABORTED", "is being created by another process"):
        volume.create(controller, "young", parameters=rest.parameters)
    assert _everything(view) == before
    _delete(controller, view, creating(0)("young", rest.parameters))


def test_age_is_the_time_without_a_change_by_the_controllers_own_clock(
    controller: Driver,
    view: View,
    creating: Callable[[float], Create],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 1000.0
    monkeypatch.setattr(interrupted, "monotonic", lambda: clock)
    image_id = half_made.leave(view, "csi-slow", SIZE, RESTS["name object"])
    create, other = creating(300), creating(300)

    def is_left_alone(by: Create) -> None:
        with pytest.raises(errors.Busy, match="csi-slow is being created"):
            by("slow", {})

    is_left_alone(create)
    clock += 299
    is_left_alone(create)
    is_left_alone(other)
    with rados.WriteOpCtx() as operation:  # the creation goes on, by a client whose clock is wrong
        operation.write_full(objects.counted(image_id))
        view.ioctx.operate_write_op(operation, f"{objects.ID}csi-slow", mtime=1)
    clock += 299
    is_left_alone(create)
    is_left_alone(other)
    clock += 299
    is_left_alone(create)
    clock += 1
    _delete(controller, view, create("slow", {}))


def test_controllers_that_remove_a_rest_at_once_make_one_volume(
    controller: Driver, view: View, creating: Callable[[float], Create]
) -> None:
    creators = [creating(0) for _ in range(4)]

    def created(create: Create) -> Volume:
        ends_at = time.monotonic() + 60
        while True:
            try:
                return create("raced", half_made.STRIPES)
            except (errors.Busy, errors.NotFound, errors.Refused):
                # Refused: another creation wrote name and header between the two reads of them.
                assert time.monotonic() < ends_at

    with futures.ThreadPoolExecutor(len(creators)) as threads:
        for name in ("name object", "header", "stripes", "object map, after the stripes"):
            image_id = half_made.leave(view, "csi-raced", SIZE, RESTS[name])
            (made,) = set(threads.map(created, creators))
            assert view.objects_of(image_id) == []
            assert view.images() == ["csi-raced"]
            traces = creation.read(view.ioctx, "csi-raced")
            assert (creation.contradiction(traces), creation.missing(traces)) == (None, None)
            _delete(controller, view, made)


def test_removal_that_comes_late_touches_neither_a_volume_nor_a_newer_image(
    controller: Driver, view: View
) -> None:
    made = volume.create(controller, "late")
    before = _everything(view)
    assert not creation.remove(view.ioctx, "csi-late", view.image_id(made), unless=spec.KEY)
    assert creation.remove(view.ioctx, "csi-late", "1234abcd", unless=spec.KEY)
    assert _everything(view) == before
    volume.delete(controller, made)


def test_image_with_data_a_snapshot_an_attachment_or_a_client_is_refused_and_left(
    controller: Driver, view: View, creating: Callable[[float], Create]
) -> None:
    create = creating(0)
    parameters = {**half_made.STRIPES, "imageFeatures": "layering"}
    rest = RESTS["stripes, and no object map asked for"]
    image_id = half_made.leave(view, "csi-used", SIZE, rest)
    with rbd.Image(view.ioctx, "csi-used") as image:
        image.write(b"precious", 40 * MIB)
        _is_refused(view, create, parameters, "it holds data")
        image.create_snap("kept")
        image.discard(0, SIZE)
        _is_refused(view, create, parameters, "it has snapshots")
        image.remove_snap("kept")
        (watcher,) = image.watchers_list()
        _is_refused(view, create, parameters, f"it is open by {watcher['addr']}")
    records = store.Records(view.ioctx)
    records.change(image_id, lambda _: VolumeRecord(generation=1))
    _is_refused(view, create, parameters, "it has an attachment record")
    view.ioctx.remove_object(f"{objects.HEADER}{image_id}")
    _is_refused(view, create, parameters, "it has an attachment record")
    records.change(image_id, lambda _: None)
    _delete(controller, view, create("used", parameters))


def test_state_that_no_creation_leaves_is_refused_and_left(
    controller: Driver, view: View, creating: Callable[[float], Create]
) -> None:
    create = creating(0)
    image_id = half_made.leave(view, "csi-used", SIZE, Rest(objects=(half_made.NAME,)))
    _is_refused(view, create, {}, f"image {image_id} has a header, but no object rbd_id.NAME")
    view.ioctx.write_full(f"{objects.ID}csi-used", objects.counted("1234abcd"))
    _is_refused(view, create, {}, f"its name leads to 1234abcd, the directory to {image_id}")
    view.ioctx.write_full(f"{objects.ID}csi-used", objects.counted(image_id))
    entry = objects.counted("csi-used") + objects.counted(image_id)
    half_made.execute(view, "dir_remove_image", entry)
    _is_refused(view, create, {}, f"image {image_id} has a header, but no entry in rbd_directory")
    half_made.execute(view, "dir_add_image", entry)
    _delete(controller, view, create("used", {}))


def test_volume_whose_name_was_removed_has_it_again_by_a_repeated_call(
    controller: Driver, view: View
) -> None:
    made = volume.create(controller, "nameless")
    name = made.context["imageName"]
    view.ioctx.remove_object(f"{objects.ID}{name}")  # as a creator that was frozen for long does
    assert volume.create(controller, "nameless").id == made.id
    with rbd.Image(view.ioctx, name, read_only=True) as image:
        assert image.id() == ids.parse(made.id).image_id
    volume.delete(controller, made)


def _is_refused(view: View, create: Create, parameters: Mapping[str, str], words: str) -> None:
    before = _everything(view)
    with pytest.raises(errors.Refused, match=words):
        create("used", parameters)
    assert _everything(view) == before


def test_name_of_a_volume_whose_deletion_was_cut_off_is_busy(
    controller: Driver, view: View
) -> None:
    made = volume.create(controller, "deleted")
    image_id = view.image_id(made)
    store.Records(view.ioctx).change(
        image_id, lambda _: VolumeRecord(deleting="2026-01-01T00:00:00Z")
    )
    view.ioctx.remove_object(f"{objects.ID}csi-deleted")
    with refused("ABORTED", "is being deleted since 2026-01-01T00:00:00Z"):
        volume.create(controller, "deleted")
    view.ioctx.write_full(f"{objects.ID}csi-deleted", objects.counted(image_id))
    volume.delete(controller, made)
    view.wait_until_gone(image_id)


def test_creator_killed_at_any_moment_leaves_nothing_that_create_does_not_complete(
    controller: Driver,
    view: View,
    cluster: Cluster,
    creating: Callable[[float], Create],
    admin: rados.Rados,
    figures: Callable[[str], None],
) -> None:
    seed = random.randrange(1 << 32)
    chance, cut_off = random.Random(seed), 0
    before = set(leftovers.blocklisted(admin))
    create, all_made = creating(0), []
    for number in range(KILLS):
        name = f"csi-killed-{number}"
        _kill_in_the_middle(cluster, view, name, chance.uniform(0, 0.004))
        traces = creation.read(view.ioctx, name)
        cut_off += creation.missing(traces) is not None
        all_made.append(create(f"killed-{number}", {}))
        finished = creation.read(view.ioctx, name)
        assert (creation.contradiction(finished), creation.missing(finished)) == (None, None)
    figures(f"creations: {cut_off} cut off / {KILLS} kills, seed {seed}")
    assert cut_off
    _delete(controller, view, *all_made)
    assert set(leftovers.blocklisted(admin)) == before


def _kill_in_the_middle(cluster: Cluster, view: View, name: str, seconds: float) -> None:
    """Kill a process that creates the image so long after its name is seen in the directory."""
    pool = view.ioctx.get_pool_name()
    arguments = (str(cluster.conf), cluster.user, str(cluster.keyring), pool)
    with subprocess.Popen(
        (sys.executable, "-c", CREATOR, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as creator:
        assert creator.stdin
        assert creator.stdout
        assert creator.stdout.readline() == "ready\n"
        creator.stdin.write(f"{name}\n")
        creator.stdin.flush()
        commands.wait_until(
            lambda: names.begin_listed_id(view.ioctx, name).result() is not None,
            "the creation has begun",
            pause=0,
        )
        time.sleep(seconds)
        creator.kill()
