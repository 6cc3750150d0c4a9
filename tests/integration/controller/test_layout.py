"""Every parameter of a StorageClass reaches the image."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence

import pytest
import rados
import rbd

from e2e import volume
from e2e.clusters import Cluster, erasure
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB
from rbdcsi.ceph import objects
from rbdcsi.ceph.images import Images
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

NAMESPACE = "tenant"


@pytest.fixture(scope="module")
def strict_pool(cluster: Cluster) -> Iterator[str]:
    """Give the name of an erasure-coded pool without overwrites."""
    name = f"strict-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name, erasure=True, overwrites=False)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="module")
def further_pools(data_pool: str, strict_pool: str) -> Sequence[str]:
    return (data_pool, strict_pool)


@pytest.fixture(scope="module")
def tenant(cluster: Cluster, admin: rados.Rados, pool: str) -> Iterator[View]:
    """Give the RADOS namespace `tenant` of the module's pool."""
    cluster.rbd("namespace", "create", f"{pool}/{NAMESPACE}")
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx:
        ioctx.set_namespace(NAMESPACE)
        yield View(ioctx)


@pytest.mark.parametrize(
    ("parameters", "features", "object_bytes", "stripe"),
    [
        ({}, 61, 4 * MIB, (4 * MIB, 1)),
        ({"imageFeatures": "layering"}, 1, 4 * MIB, (4 * MIB, 1)),
        ({"imageFeatures": "layering,exclusive-lock,journaling"}, 69, 4 * MIB, (4 * MIB, 1)),
        ({"objectSize": "32M"}, 61, 32 * MIB, (32 * MIB, 1)),
        (
            {"objectSize": "1M", "stripeUnit": "64K", "stripeCount": "8"},
            61 | rbd.RBD_FEATURE_STRIPINGV2,
            MIB,
            (65536, 8),
        ),
    ],
    ids=["default", "layering", "journaling", "objects", "stripes"],
)
def test_layout_of_the_image(
    controller: Driver,
    view: View,
    parameters: Mapping[str, str],
    features: int,
    object_bytes: int,
    stripe: tuple[int, int],
) -> None:
    made = volume.create(controller, "laid-out", size=96 * MIB, parameters=parameters)
    with view.image(made) as image:
        assert image.size() == made.size == 96 * MIB
        assert image.features() == features
        assert image.stat()["obj_size"] == object_bytes
        assert (image.stripe_unit(), image.stripe_count()) == stripe
    assert volume.create(controller, "laid-out", size=96 * MIB, parameters=parameters) == made
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))


def test_data_goes_to_the_erasure_coded_pool(
    admin: rados.Rados, controller: Driver, view: View, data_pool: str
) -> None:
    parameters = {"dataPool": data_pool}
    made = volume.create(controller, "coded", parameters=parameters)
    with view.image(made, readonly=False) as image:
        assert image.features() & rbd.RBD_FEATURE_DATA_POOL
        image.write(b"x" * MIB, 0)
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(data_pool) as ioctx:
        coded = View(ioctx)
        assert coded.objects_of(image_id(made))
        volume.delete(controller, made)
        view.wait_until_gone(image_id(made))
        assert coded.objects_of(image_id(made)) == []


def test_a_data_pool_without_overwrites_is_refused_until_it_allows_them(
    cluster: Cluster, controller: Driver, strict_pool: str
) -> None:
    words = f"ceph osd pool set {strict_pool} allow_ec_overwrites true"
    source = volume.create(controller, "source")
    for name, original in (("strict", ""), ("strict-copy", source.id)):
        parameters = {"dataPool": strict_pool}
        with refused("INVALID_ARGUMENT", f"data pool '{strict_pool}' is erasure-coded", words):
            volume.create(controller, name, parameters=parameters, source=original)
    erasure.allow_overwrites(cluster.ceph, strict_pool)
    made = volume.create(controller, "strict", parameters={"dataPool": strict_pool})
    volume.delete(controller, made)
    volume.delete(controller, source)


def test_images_are_in_the_namespace_and_apart_from_those_outside(
    controller: Driver, view: View, tenant: View
) -> None:
    inside = volume.create(controller, "same", parameters={"radosNamespace": NAMESPACE})
    outside = volume.create(controller, "same")
    assert tenant.images() == view.images() == ["csi-same"]
    assert inside.id != outside.id
    volume.delete(controller, inside)
    tenant.wait_until_gone(image_id(inside))
    assert view.images() == ["csi-same"]
    volume.delete(controller, outside)


def test_the_prefix_begins_the_image_name(controller: Driver, view: View, pool: str) -> None:
    made = volume.create(
        controller, "pvc-1", parameters={"volumeNamePrefix": "gold-", "pool": pool}
    )
    assert view.images() == ["gold-pvc-1"]
    assert dict(made.context) == {"pool": pool, "imageName": "gold-pvc-1"}
    volume.delete(controller, made)


def test_the_image_says_whose_it_is_and_what_nodes_need(
    cluster: Cluster, controller: Driver, pool: str
) -> None:
    made = volume.create(
        controller,
        "pvc-2",
        capability=volume.mounted("ext4"),
        parameters={
            "csi.storage.k8s.io/pvc/name": "données",
            "csi.storage.k8s.io/pvc/namespace": "shop",
            "csi.storage.k8s.io/pv/name": "pvc-2",
            "mounter": "rbd-nbd",
            "tryOtherMounters": "true",
            "mapOptions": "krbd:noshare;nbd:try-netlink",
            "unmapOptions": "force",
            "mkfsOptions": "-m 0 -E 'nodiscard'",
        },
    )
    said = json.loads(
        cluster.rbd("image-meta", "list", f"{pool}/csi-pvc-2", "--format", "json", timeout=30)
    )
    spec = json.loads(said.pop("rbdcsi.volume"))
    assert said == {
        "rbdcsi.pvc": "données",
        "rbdcsi.pvc-namespace": "shop",
        "rbdcsi.pv": "pvc-2",
    }
    assert (spec["version"], spec["name"], spec["fs_type"]) == (1, "pvc-2", "ext4")
    assert spec["node"] == {
        "mapper": "nbd",
        "try_other_mappers": True,
        "map_options": {"krbd": "noshare", "nbd": "try-netlink"},
        "unmap_options": {"krbd": "force"},
        "mkfs_options": "-m 0 -E 'nodiscard'",
    }
    volume.delete(controller, made)


@pytest.mark.parametrize("placed", ["plain", "striped", "coded"])
def test_the_header_is_read_as_librbd_reads_it(
    controller: Driver, view: View, data_pool: str, placed: str
) -> None:
    parameters = {
        "plain": {"imageFeatures": "layering,exclusive-lock"},
        "striped": {"objectSize": "8M", "stripeUnit": "4K", "stripeCount": "16"},
        "coded": {"dataPool": data_pool},
    }[placed]
    made = volume.create(controller, "header", size=20 * MIB, parameters=parameters)
    images = Images(view.ioctx)
    found = images.header(image_id(made))
    assert found
    with view.image(made, readonly=False) as image:
        striped = image.features() & rbd.RBD_FEATURE_STRIPINGV2
        assert found == objects.Header(
            size=image.size(),
            object_bytes=image.stat()["obj_size"],
            features=image.features(),
            stripe_unit=image.stripe_unit() if striped else None,
            stripe_count=image.stripe_count() if striped else None,
            data_pool_id=image.data_pool_id() if placed == "coded" else None,
            metadata=dict(image.metadata_list()),
        )
        image.resize(24 * MIB)
        image.metadata_set("owner", "Zoë")
        changed = images.header(image_id(made))
        assert changed
        assert (changed.size, changed.metadata["owner"]) == (24 * MIB, "Zoë")
        image.metadata_remove("owner")
        assert images.set_metadata(image_id(made), {"b": "2", "a": "1"}, key="a", old=None)
        assert not images.set_metadata(image_id(made), {"a": "3"}, key="a", old=None)
        assert dict(image.metadata_list()).items() >= {"a": "1", "b": "2"}.items()
    assert images.id_of("csi-header") == image_id(made)
    assert images.name_of(image_id(made)) == "csi-header"
    assert (image_id(made), "csi-header") in images.all()
    volume.delete(controller, made)
