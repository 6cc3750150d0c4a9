"""CreateVolume: idempotent, honest about what differs, and never in an image of somebody else."""

import contextlib
from collections.abc import Iterator, Mapping

import pytest
import rbd

from e2e import volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

DEFAULT_FEATURES = 61  # layering, exclusive-lock, object-map, fast-diff, deep-flatten
GIB = 1 << 30


@contextlib.contextmanager
def created(controller: Driver, name: str, **arguments: object) -> Iterator[Volume]:
    made = volume.create(controller, name, **arguments)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        volume.delete(controller, made)


def test_a_repeat_gives_the_same_volume(controller: Driver, view: View) -> None:
    with created(controller, "again") as made:
        assert volume.create(controller, "again") == made
        assert view.images() == ["csi-again"]


def test_a_repeat_within_the_range_gives_the_volume_with_its_own_size(controller: Driver) -> None:
    with created(controller, "range", size=20 * MIB, limit=40 * MIB) as made:
        again = volume.create(controller, "range", size=16 * MIB, limit=30 * MIB)
        assert (again.id, again.size) == (made.id, 20 * MIB)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 128 * MIB}, ["size is 67108864 bytes", "at least 134217728"]),
        ({"size": 16 * MIB, "limit": 32 * MIB}, ["size is 67108864", "at most 33554432"]),
        ({"capability": volume.mounted("btrfs"), "size": 128 * MIB}, ["ext4", "btrfs"]),
        ({"capability": volume.raw()}, ["it is for ext4", "raw block use"]),
        ({"parameters": {"objectSize": "8M"}}, ["object_bytes is 4194304", "8388608"]),
        ({"parameters": {"imageFeatures": "layering"}}, ["features", "deep-flatten"]),
        ({"parameters": {"mapOptions": "krbd:noshare"}}, ["map_options", "noshare"]),
        ({"parameters": {"mkfsOptions": "-m 0"}}, ["mkfs_options is ''", "'-m 0'"]),
    ],
    ids=["larger", "limit", "filesystem", "block", "objects", "features", "map", "mkfs"],
)
def test_the_same_name_asked_for_otherwise_is_refused_with_what_differs(
    controller: Driver, view: View, arguments: Mapping[str, object], words: list[str]
) -> None:
    with created(controller, "other") as made:
        before = view.metadata(made)
        with refused("ALREADY_EXISTS", "'other'", "csi-other", *words):
            volume.create(controller, "other", **arguments)  # type: ignore[arg-type]
        assert view.metadata(made) == before


def test_names_for_people_may_change_between_repeats(controller: Driver, view: View) -> None:
    names = {"csi.storage.k8s.io/pvc/name": "one"}
    with created(controller, "people", parameters=names) as made:
        assert volume.create(controller, "people").id == made.id
        assert view.metadata(made)["rbdcsi.pvc"] == "one"


@pytest.mark.parametrize(
    ("required", "limit", "size"),
    [
        (1, 0, 16 * MIB),
        (16 * MIB + 1, 0, 17 * MIB),
        (0, 0, GIB),
        (0, 100 * MIB, 100 * MIB),
        (1 << 40, 0, 1 << 40),
    ],
)
def test_sizes_are_whole_mib_within_the_range(
    controller: Driver, view: View, required: int, limit: int, size: int
) -> None:
    with (
        created(controller, "sized", size=required, limit=limit) as made,
        view.image(made) as image,
    ):
        assert made.size == image.size() == size


@pytest.mark.parametrize(
    ("required", "limit", "words"),
    [
        (0, MIB, ["smallest ext4 volume", str(16 * MIB)]),
        (32 * MIB, 16 * MIB, ["no volume fits between"]),
        (16 * MIB + 1, 16 * MIB + 2, ["whole MiB"]),
        (1 << 62, 0, ["more than an image", "larger objectSize"]),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    controller: Driver, view: View, required: int, limit: int, words: list[str]
) -> None:
    with refused("OUT_OF_RANGE", *words):
        volume.create(controller, "sized", size=required, limit=limit)
    assert view.images() == []


def test_a_negative_size_is_no_range(controller: Driver) -> None:
    with refused("INVALID_ARGUMENT", "negative"):
        volume.create(controller, "negative", size=-1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"pol": "rbd"}, ["unknown parameter 'pol'", "did you mean pool?", "clusterID"]),
        ({"encrypted": "true"}, ["encrypted: 'true' is not supported"]),
        ({"pool": "nowhere"}, ["no pool 'nowhere'", "ceph osd pool ls"]),
        ({"dataPool": "nowhere"}, ["no pool 'nowhere'"]),
        ({"clusterID": "other"}, ["clusterID 'other'", "which has: local"]),
        ({"radosNamespace": "none"}, ["no RADOS namespace 'none'", "rbd namespace create"]),
        ({"imageFeatures": "fast-diff"}, ["fast-diff needs object-map"]),
        ({"stripeUnit": "64K"}, ["stripeUnit and stripeCount go together"]),
        ({"csi.storage.k8s.io/fstype": "vfat"}, ["'vfat' is not supported", "ext4, xfs, btrfs"]),
    ],
)
def test_parameters_that_cannot_be_are_refused_with_the_fix(
    controller: Driver, view: View, parameters: Mapping[str, str], words: list[str]
) -> None:
    with refused("INVALID_ARGUMENT", *words):
        volume.create(
            controller, "wrong", parameters=parameters, capability=volume.mounted(fs_type="")
        )
    assert view.images() == []


def test_a_filesystem_for_many_writers_is_refused(controller: Driver) -> None:
    with refused("INVALID_ARGUMENT", "MULTI_NODE_MULTI_WRITER", "raw block"):
        volume.create(
            controller, "shared", capability=volume.mounted(mode="MULTI_NODE_MULTI_WRITER")
        )


@pytest.mark.parametrize(
    ("size", "features", "words"),
    [
        (32 * MIB, DEFAULT_FEATURES, ["is not a volume of this driver", "size is 33554432"]),
        (64 * MIB, 1, ["is not a volume of this driver", "features layering"]),
    ],
    ids=["size", "features"],
)
def test_an_image_made_by_hand_is_not_taken(
    controller: Driver, view: View, size: int, features: int, words: list[str]
) -> None:
    rbd.RBD().create(view.ioctx, "csi-byhand", size, features=features, old_format=False)
    try:
        with refused("ALREADY_EXISTS", "csi-byhand", *words):
            volume.create(controller, "byhand")
        with rbd.Image(view.ioctx, "csi-byhand", read_only=True) as image:
            assert list(image.metadata_list()) == []
    finally:
        rbd.RBD().remove(view.ioctx, "csi-byhand")


def test_an_image_made_by_hand_with_data_is_not_taken_though_all_else_is_as_asked(
    controller: Driver, view: View
) -> None:
    rbd.RBD().create(view.ioctx, "csi-data", 64 * MIB, features=DEFAULT_FEATURES, old_format=False)
    try:
        with rbd.Image(view.ioctx, "csi-data") as image:
            image.write(b"precious", 40 * MIB)
        with refused("ALREADY_EXISTS", "csi-data", "holds data"):
            volume.create(controller, "data")
    finally:
        rbd.RBD().remove(view.ioctx, "csi-data")


def test_a_half_made_image_is_completed(controller: Driver, view: View) -> None:
    rbd.RBD().create(view.ioctx, "csi-half", 64 * MIB, features=DEFAULT_FEATURES, old_format=False)
    with created(controller, "half") as made:
        assert view.images() == ["csi-half"]
        assert "rbdcsi.volume" in view.metadata(made)


def test_an_unreadable_description_is_an_error_and_stays_as_it_is(
    controller: Driver, view: View
) -> None:
    with created(controller, "odd") as made:
        right = view.metadata(made)["rbdcsi.volume"]
        for wrong in ("{", "{}", right.replace('"version":1', '"version":2')):
            with view.image(made, readonly=False) as image:
                image.metadata_set("rbdcsi.volume", wrong)
            with refused("INTERNAL", "csi-odd", "rbdcsi.volume"):
                volume.create(controller, "odd")
            assert view.metadata(made)["rbdcsi.volume"] == wrong
        with view.image(made, readonly=False) as image:
            image.metadata_set("rbdcsi.volume", right)


def test_a_name_in_use_by_another_volume_of_the_same_image_is_refused(
    cluster: Cluster, controller: Driver, view: View
) -> None:
    with created(controller, "first") as made:
        cluster.rbd("rename", f"{view.ioctx.get_pool_name()}/csi-first", "csi-second")
        with refused("ALREADY_EXISTS", "csi-second", "belongs to the volume named 'first'"):
            volume.create(controller, "second")
        assert view.metadata(made)
