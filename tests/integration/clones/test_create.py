"""CreateVolume of a copy: what it takes over, what it refuses, and that it leaves nothing."""

from collections.abc import Iterator, Sequence

import pytest
import rbd

from e2e import volume
from e2e.clusters import Cluster
from e2e.driver import CLUSTER_ID, Driver, Installation
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from rbdcsi.model import ids
from rbdcsi.volumes import spec
from tests.integration.controller.at_once import call, repeated
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB
DATA = b"data of the source" * 100


@pytest.fixture(scope="module")
def further_pools(second_pool: str) -> Sequence[str]:
    return (second_pool,)


@pytest.fixture
def source(controller: Driver, view: View) -> Iterator[Volume]:
    """Give a volume with data."""
    made = volume.create(controller, "source", size=SIZE)
    with view.image(made, readonly=False) as image:
        image.write(DATA, 40 * MIB)
    yield made
    volume.delete(controller, made)


def snapshot_id(view: View, made: Volume, name: str) -> str:
    """Return the id of a snapshot that another program takes."""
    with view.image(made, readonly=False) as image:
        image.create_snap(name)
        (snap_id,) = (each["id"] for each in image.list_snaps() if each["name"] == name)
    return str(ids.SnapshotHandle(ids.parse(made.id), snap_id))


def _read(view: View, made: Volume) -> bytes:
    with view.image(made) as image:
        return image.read(40 * MIB, len(DATA))


def test_copy_of_a_volume_holds_its_data_and_no_snapshot_stays(
    controller: Driver, view: View, source: Volume
) -> None:
    made = volume.create(controller, "copy", size=SIZE, source=source.id)
    assert made.size == SIZE
    assert _read(view, made) == DATA
    with view.image(source, readonly=False) as image:
        image.write(b"later" * 100, 40 * MIB)
        assert [each for each in image.list_snaps() if each["namespace"] == 0] == []
    assert _read(view, made) == DATA
    assert volume.create(controller, "copy", size=SIZE, source=source.id) == made
    assert view.images() == ["csi-copy", "csi-source"]
    volume.delete(controller, made)


def test_copy_of_a_snapshot_holds_the_data_of_then(
    controller: Driver, view: View, source: Volume
) -> None:
    snapshot = snapshot_id(view, source, "then")
    with view.image(source, readonly=False) as image:
        image.write(b"later" * 100, 40 * MIB)
    made = volume.create(controller, "copy", size=SIZE, source=snapshot)
    assert _read(view, made) == DATA
    assert volume.create(controller, "copy", size=SIZE, source=snapshot) == made
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))
    with view.image(source, readonly=False) as image:
        image.remove_snap("then")


def test_response_names_the_source(controller: Driver, source: Volume) -> None:
    message = volume.content_source(source.id)
    request = csi_pb2.CreateVolumeRequest(
        name="copy", volume_capabilities=[volume.mounted()], volume_content_source=message
    )
    for _ in range(2):
        made = controller.controller.CreateVolume(request).volume
        assert made.content_source == message
        assert made.capacity_bytes == SIZE
    shown = controller.controller.ControllerGetVolume(
        csi_pb2.ControllerGetVolumeRequest(volume_id=made.volume_id)
    )
    assert shown.volume.content_source == message
    volume.delete(controller, Volume(made.volume_id, volume.mounted()))


def test_copy_may_have_another_pool_class_and_size(
    controller: Driver, view: View, source: Volume, second_pool: str, cluster: Cluster
) -> None:
    parameters = {
        "clusterID": CLUSTER_ID,
        "pool": second_pool,
        "dataPool": view.ioctx.get_pool_name(),
        "objectSize": "1M",
        "imageFeatures": "layering,exclusive-lock",
        "volumeNamePrefix": "team-",
    }
    made = volume.create(controller, "copy", size=2 * SIZE, source=source.id, parameters=parameters)
    assert made.size == 2 * SIZE
    assert (made.context["pool"], made.context["imageName"]) == (second_pool, "team-copy")
    with cluster.connection() as connection, connection.open_ioctx(second_pool) as ioctx:
        with rbd.Image(ioctx, "team-copy", read_only=True) as image:
            assert image.size() == 2 * SIZE
            assert image.stat()["obj_size"] == MIB
            assert image.read(40 * MIB, len(DATA)) == DATA
            assert image.read(2 * SIZE - MIB, MIB) == bytes(MIB)
        again = volume.create(
            controller, "copy", size=2 * SIZE, source=source.id, parameters=parameters
        )
        assert again == made
        volume.delete(controller, made)


def test_copy_may_have_another_rados_namespace(
    controller: Driver, view: View, source: Volume
) -> None:
    rbd.RBD().namespace_create(view.ioctx, "other")
    made = volume.create(
        controller, "copy", source=source.id, parameters={"radosNamespace": "other"}
    )
    with view.ioctx.dup() as other:
        other.set_namespace("other")
        there = View(other)
        with there.image(made) as image:
            assert image.read(40 * MIB, len(DATA)) == DATA
        back = volume.create(controller, "back", source=made.id)
        assert _read(view, back) == DATA
        for each in (back, made):
            volume.delete(controller, each)
        view.wait_until_gone(view.image_id(back))
        there.wait_until_gone(there.image_id(made))
        other.remove_object("rbdcsi.location")
    controller.stop()  # what it knows of the namespace ends with it
    controller.start()


def test_copy_has_its_own_metadata_only(controller: Driver, view: View) -> None:
    names = {f"csi.storage.k8s.io/pvc/{each}": f"its-{each}" for each in ("name", "namespace")}
    named = volume.create(controller, "named", size=SIZE, parameters=names)
    made = volume.create(controller, "copy", size=SIZE, source=named.id)
    metadata = view.metadata(made)
    copied = spec.read(metadata, "csi-copy")
    assert copied
    assert (copied.name, copied.source) == ("copy", named.id)
    assert not [key for key in metadata if key.startswith("rbdcsi.pvc")]
    for each in (made, named):
        volume.delete(controller, each)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"limit": 32 * MIB, "size": 16 * MIB}, "OUT_OF_RANGE", ("never smaller", str(SIZE))),
        ({"parameters": {"imageFeatures": "exclusive-lock"}}, "INVALID_ARGUMENT", ("layering",)),
        (
            {"capability": volume.mounted("xfs"), "size": 512 * MIB},
            "INVALID_ARGUMENT",
            ("which is ext4, but xfs is requested",),
        ),
    ],
)
def test_copy_that_cannot_be_is_refused_before_anything_is_made(
    controller: Driver,
    view: View,
    source: Volume,
    arguments: dict[str, object],
    code: str,
    words: tuple[str, ...],
) -> None:
    with refused(code, *words):
        volume.create(controller, "copy", source=source.id, **arguments)  # type: ignore[arg-type]
    assert view.images() == ["csi-source"]
    with view.image(source) as image:
        assert list(image.list_snaps()) == []
    view.wait_until_no_copy_is_noted()


def test_source_that_does_not_exist_is_not_found(
    controller: Driver, view: View, source: Volume
) -> None:
    location = ids.parse(source.id).location
    gone = ids.VolumeHandle(location, "1234abcd")
    no_snapshot = ids.SnapshotHandle(ids.parse(source.id), 4711)
    for missing in (str(gone), str(no_snapshot), "anything", "s1:anything"):
        with refused("NOT_FOUND", missing):
            volume.create(controller, "copy", source=missing)
    deleted = volume.create(controller, "deleted", size=SIZE)
    volume.delete(controller, deleted)
    with refused("NOT_FOUND", deleted.id):
        volume.create(controller, "copy", source=deleted.id)
    other = source.id.replace(f":{CLUSTER_ID}:", ":elsewhere:")
    with refused("INVALID_ARGUMENT", "elsewhere", "within a cluster only"):
        volume.create(controller, "copy", source=other)
    view.wait_until_gone(view.image_id(deleted))
    assert view.images() == ["csi-source"]
    view.wait_until_no_copy_is_noted()


def test_same_name_with_another_source_exists_already(controller: Driver, source: Volume) -> None:
    other = volume.create(controller, "other", size=SIZE)
    made = volume.create(controller, "copy", size=SIZE, source=source.id)
    for asked, words in ((other.id, f"is a copy of {other.id}"), ("", "began empty")):
        with refused("ALREADY_EXISTS", f"it is a copy of {source.id}", words):
            volume.create(controller, "copy", size=SIZE, source=asked)
    with refused("ALREADY_EXISTS", "began empty"):
        volume.create(controller, "other", size=SIZE, source=source.id)
    for each in (made, other):
        volume.delete(controller, each)


def test_repeat_succeeds_after_the_source_is_gone(controller: Driver, view: View) -> None:
    first = volume.create(controller, "first", size=SIZE)
    made = volume.create(controller, "copy", size=SIZE, source=first.id)
    volume.delete(controller, first)
    assert volume.create(controller, "copy", size=SIZE, source=first.id) == made
    view.wait_until_no_copy_is_noted()
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))
    view.wait_until_gone(view.image_id(first))


def test_filesystem_that_no_one_names_is_that_of_the_source(controller: Driver, view: View) -> None:
    first = volume.create(controller, "first", size=512 * MIB, capability=volume.mounted("xfs"))
    unnamed = volume.mounted("")
    for _ in range(2):
        made = volume.create(
            controller, "copy", source=first.id, size=512 * MIB, capability=unnamed
        )
        copied = spec.read(view.metadata(made), "csi-copy")
        assert copied
        assert copied.fs_type == "xfs"
    for each in (made, first):
        volume.delete(controller, each)


def test_controllers_at_once_make_one_copy(
    controller: Driver, view: View, source: Volume, installation: Installation
) -> None:
    other = installation.controller("other").start()
    for name in (f"raced-{number}" for number in range(4)):
        answers, codes = call(
            [
                lambda each=each, name=name: volume.create(each, name, size=SIZE, source=source.id)  # type: ignore[misc]
                for each in (controller, other)
            ]
        )
        assert set(codes) <= {"ABORTED"}
        assert len({each.id for each in answers}) == 1
        assert view.images() == [f"csi-{name}", "csi-source"]
        assert _read(view, answers[0]) == DATA
        view.wait_until_no_copy_is_noted()
        volume.delete(controller, answers[0])
    other.stop()


def test_source_that_is_deleted_meanwhile_leaves_a_whole_copy_or_none(
    controller: Driver, view: View
) -> None:
    for number in range(4):
        first = volume.create(controller, f"first-{number}", size=SIZE)
        with view.image(first, readonly=False) as image:
            image.write(DATA, 40 * MIB)

        def copy(first: Volume = first, number: int = number) -> Volume | None:
            return volume.create(controller, f"copy-{number}", size=SIZE, source=first.id)

        def delete(first: Volume = first) -> Volume | None:
            return volume.delete(controller, first)  # type: ignore[func-returns-value]

        answers, codes = call([copy, delete])
        assert set(codes) <= {"NOT_FOUND", "ABORTED"}
        copies = [each for each in answers if each]
        for made in copies:
            assert _read(view, made) == DATA
            volume.delete(controller, made)
            view.wait_until_gone(view.image_id(made))
        repeated(delete)
        view.wait_until_gone(view.image_id(first))
        assert view.images() == []
