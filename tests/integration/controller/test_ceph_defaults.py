"""The class decides the layout of an image, whatever Ceph's configuration has as defaults."""

import uuid
from collections.abc import Iterator, Mapping, Sequence

import grpc
import pytest

from e2e import driver, volume
from e2e.clusters import Cluster
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.model import image_layout
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

PLAIN = 61, 4 * MIB, (4 * MIB, 1)


@pytest.fixture(scope="module")
def further_pools(data_pool: str) -> Sequence[str]:
    return (data_pool,)


@pytest.fixture(scope="module")
def defaults(cluster: Cluster, data_pool: str) -> Iterator[None]:
    """Configure the defaults of images for every client of the cluster."""
    values = {
        "rbd_default_data_pool": data_pool,
        "rbd_default_stripe_unit": "65536",
        "rbd_default_stripe_count": "4",
        "rbd_default_order": "23",
        "rbd_default_features": "layering",
    }
    for name, value in values.items():
        cluster.ceph("config", "set", "client", name, value)
    yield
    for name in values:
        cluster.ceph("config", "rm", "client", name)


@pytest.fixture
def mortal(
    installation: driver.Installation, defaults: None, nothing_left: None
) -> Iterator[Driver]:
    """Give a controller that is not running."""
    assert (defaults, nothing_left) == (None, None)
    controller = installation.controller(f"mortal-{uuid.uuid4().hex[:4]}")
    yield controller
    controller.stop()


def _layout(view: View, made: Volume) -> tuple[int, int, tuple[int, int]]:
    with view.image(made) as image:
        stripe = (image.stripe_unit(), image.stripe_count())
        features = image.features() & ~image_layout.BITS["operations"]  # a source of copies has it
        return features, image.stat()["obj_size"], stripe


def _create_at_second_try(mortal: Driver, name: str, parameters: Mapping[str, str]) -> Volume:
    """Create a volume by a controller that dies once its image is created, and another one."""
    mortal.start(kill_after="create.image")
    with pytest.raises(grpc.RpcError):
        volume.create(mortal, name, parameters=parameters)
    mortal.stop()
    return volume.create(mortal.start(), name, parameters=parameters)


def _delete(mortal: Driver, view: View, made: Volume) -> None:
    volume.delete(mortal, made)
    view.wait_until_gone(image_id(made))


def test_defaults_of_ceph_reach_no_volume(mortal: Driver, view: View) -> None:
    mortal.start()
    made = volume.create(mortal, "plain")
    copy = volume.create(mortal, "copy", source=made.id)
    assert _layout(view, made) == _layout(view, copy) == PLAIN
    _delete(mortal, view, copy)
    _delete(mortal, view, made)


@pytest.mark.parametrize(
    ("parameters", "layout"),
    [
        ({}, PLAIN),
        ({"dataPool": "{pool}"}, PLAIN),
        (
            {"imageFeatures": "layering,exclusive-lock,object-map"},
            (29, *PLAIN[1:]),  # librbd adds fast-diff
        ),
        ({"objectSize": "1M"}, (61, MIB, (MIB, 1))),
    ],
    ids=["default", "own pool for data", "object map alone", "objects"],
)
def test_a_creation_that_was_cut_off_is_recognised(
    mortal: Driver,
    view: View,
    pool: str,
    parameters: Mapping[str, str],
    layout: tuple[int, int, tuple[int, int]],
) -> None:
    values = {name: value.format(pool=pool) for name, value in parameters.items()}
    made = _create_at_second_try(mortal, "cut-off", values)
    assert _layout(view, made) == layout
    _delete(mortal, view, made)
