"""Volumes, snapshots and clones are deleted in every order, each at once, and nothing is left."""

import itertools
import json
from collections.abc import Callable

import pytest
import rbd

from e2e import snapshots, volume
from e2e.clusters import Cluster
from e2e.driver import CLUSTER_ID, Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from tests.integration.controller.scrape import Scrape, wait_for
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

DATA = b"precious"


def _source(controller: Driver, view: View, name: str = "source") -> Volume:
    made = volume.create(controller, name, size=16 * MIB)
    with view.image(made, readonly=False) as image:
        image.write(DATA, 0)
    return made


def _clone(cluster: Cluster, view: View, parent: str, snapshot: str, clone: str) -> None:
    """Make a clone as the driver's users have it: of format 2, by librbd."""
    pool = view.ioctx.get_pool_name()
    source = f"{pool}/{parent}@{snapshot}"
    cluster.rbd("clone", "--rbd-default-clone-format", "2", source, f"{pool}/{clone}")


def _data(view: View, image: str) -> bytes:
    with rbd.Image(view.ioctx, image, read_only=True) as opened:
        return opened.read(0, len(DATA))


def _listed(controller: Driver) -> list[str]:
    entries = controller.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    return [entry.volume.volume_id for entry in entries]


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["volume", "snapshot", "clone"])), ids="-".join
)
def test_every_order(
    cluster: Cluster, controller: Driver, view: View, order: tuple[str, ...]
) -> None:
    made = _source(controller, view)
    taken = snapshots.create(controller, "s", made.id)
    _clone(cluster, view, "csi-source", "csi-snap-s", "clone")
    deletions: dict[str, Callable[[], object]] = {
        "volume": lambda: volume.delete(controller, made),
        "snapshot": lambda: snapshots.delete(controller, taken.snapshot_id),
        "clone": lambda: rbd.RBD().remove(view.ioctx, "clone"),
    }
    for done, each in enumerate(order):
        deletions[each]()
        if "clone" in order[done + 1 :]:
            assert _data(view, "clone") == DATA
        if "snapshot" in order[done + 1 :]:
            assert snapshots.get(controller, taken.snapshot_id) == taken
            assert list(snapshots.listed(controller)) == [taken]
    # a clone that another program removes wakes no controller
    again = volume.create(controller, "source", size=16 * MIB)
    volume.delete(controller, again)
    for gone in (made, again):
        view.wait_until_gone(image_id(gone))


def test_a_deleted_volume_is_gone_for_callers_and_its_snapshots_stay_of_use(
    cluster: Cluster, controller: Driver, view: View
) -> None:
    made = _source(controller, view)
    taken = snapshots.create(controller, "s", made.id)
    volume.delete(controller, made)
    volume.delete(controller, made)
    assert view.images() == [f"rbdcsi.deleted.{image_id(made)}"]
    assert _listed(controller) == []
    with refused("NOT_FOUND", "is being deleted since"):
        request = csi_pb2.ControllerGetVolumeRequest(volume_id=made.id)
        controller.controller.ControllerGetVolume(request)
    with refused("NOT_FOUND", "is being deleted since"):
        snapshots.create(controller, "t", made.id)
    assert snapshots.create(controller, "s", made.id) == taken
    again = volume.create(controller, "source", size=16 * MIB)
    assert again.id != made.id
    _clone(cluster, view, f"rbdcsi.deleted.{image_id(made)}", "csi-snap-s", "clone")
    snapshots.delete(controller, taken.snapshot_id)
    assert _data(view, "clone") == DATA
    volume.delete(controller, again)
    rbd.RBD().remove(view.ioctx, "clone")
    volume.delete(controller, volume.create(controller, "other", size=16 * MIB))
    view.wait_until_gone(image_id(made))


def test_a_chain_is_deleted_from_its_beginning(
    cluster: Cluster, controller: Driver, view: View
) -> None:
    """Each volume is made into a clone of the one before, as the driver's own clones are."""
    chain = [_source(controller, view, "v0")]
    for number in range(1, 4):
        parent = chain[-1]
        taken = snapshots.create(controller, f"s{number}", parent.id)
        made = volume.create(controller, f"v{number}", size=16 * MIB)
        _become_clone(cluster, view, made, f"csi-v{number - 1}", f"csi-snap-s{number}")
        chain.append(_with_new_id(view, made, f"csi-v{number}"))
        snapshots.delete(controller, taken.snapshot_id)
    assert _data(view, "csi-v3") == DATA
    for made in chain[:-1]:
        volume.delete(controller, made)
    assert view.trashed() == sorted(map(image_id, chain[:-1]))
    assert _data(view, "csi-v3") == DATA
    volume.delete(controller, chain[-1])
    for made in chain:  # each removal wakes the next one: none waits for the minute
        view.wait_until_gone(image_id(made))


def _become_clone(cluster: Cluster, view: View, made: Volume, parent: str, snapshot: str) -> None:
    """Put a clone with the volume's metadata in the place of the volume's image."""
    with view.image(made) as image:
        name, metadata = image.get_name(), dict(image.metadata_list())
    rbd.RBD().remove(view.ioctx, name)
    _clone(cluster, view, parent, snapshot, name)
    with rbd.Image(view.ioctx, name) as image:
        for key, value in metadata.items():
            image.metadata_set(key, value)


def _with_new_id(view: View, made: Volume, name: str) -> Volume:
    with rbd.Image(view.ioctx, name, read_only=True) as image:
        return Volume(made.id.replace(image_id(made), image.id()), made.capability)


WAITING = f'rbdcsi_deletions_waiting{{cluster="{CLUSTER_ID}"}}'
UNFINISHED = f'rbdcsi_deletions_unfinished{{cluster="{CLUSTER_ID}"}}'


def test_what_waits_is_counted_apart_and_not_tried_again_and_again(
    watched: tuple[Driver, Scrape], view: View
) -> None:
    controller, get = watched
    made = _source(controller.start(), view)
    taken = snapshots.create(controller, "s", made.id)
    volume.delete(controller, made)
    wait_for(get, rf"{WAITING} 1\.0")
    assert f"{UNFINISHED} 0.0" in get("metrics")
    for number in range(3):
        volume.delete(controller, volume.create(controller, f"other{number}", size=16 * MIB))
    lines = [json.loads(line) for line in controller.words().splitlines()]
    waits = [line for line in lines if "waits for its snapshots" in line.get("event", "")]
    assert [(line["image_id"], line["needed_by"]) for line in waits] == [
        (image_id(made), "1 snapshot")
    ]
    assert not [line for line in lines if "to be repeated" in line.get("event", "")]
    snapshots.delete(controller, taken.snapshot_id)
    view.wait_until_gone(image_id(made))
    wait_for(get, rf"{WAITING} 0\.0")
