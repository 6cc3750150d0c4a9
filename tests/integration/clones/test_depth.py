"""Chains of clones: bounded, at the speed of the first one, cut in the background."""

import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import rbd

from e2e import driver, snapshots, volume
from e2e.clusters import Cluster, commands
from e2e.driver import CLUSTER_ID, Driver
from e2e.volume import MIB, Volume
from rbdcsi.ceph import connections, objects
from rbdcsi.ceph.images import Images
from rbdcsi.config import clusters_file
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.volumes import ancestry
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_rules import CROWDED, HARD_DEPTH, SOFT_DEPTH
from tests.integration.controller.at_once import repeated
from tests.integration.controller.scrape import Scrape
from tests.integration.controller.view import View
from tests.integration.operator.shell import Shell
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]

SIZE = 16 * MIB
GENERATIONS = 30
ROUNDS = 30


@pytest.fixture
def pooled(controller: Driver) -> connections.Connections:
    """Give connections as the controller's user, which has no permissions of the manager."""
    return connections.Connections(clusters_file.load(controller.config), timeout=10)


def _depth(pooled: connections.Connections, view: View, image_id: str) -> int:
    header = Images(view.ioctx).header(image_id)
    assert header
    return ancestry.depth(pooled.get(CLUSTER_ID), header)


def _write(view: View, made: Volume, number: int) -> None:
    with view.image(made, readonly=False) as image:
        image.write(number.to_bytes(4, "big"), number * 4096)


def _holds(view: View, made: Volume, numbers: int) -> None:
    with view.image(made) as image:
        for number in range(numbers):
            assert image.read(number * 4096, 4) == number.to_bytes(4, "big")


def _all_gone(view: View) -> None:
    commands.wait_until(lambda: not view.images() and not view.trashed(), "all gone", timeout=120)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "deleted"])
def test_chain_of_dozens_of_copies_of_copies_stays_short(
    controller: Driver,
    view: View,
    pooled: connections.Connections,
    figures: Callable[[str], None],
    kept: bool,
) -> None:
    made = volume.create(controller, "v-0", size=SIZE)
    chain, seconds, deepest = [made], [], 0
    for number in range(GENERATIONS):
        _write(view, made, number)
        begun = time.monotonic()
        source = made

        def copy(number: int = number, source: Volume = source) -> Volume:
            return volume.create(controller, f"v-{number + 1}", size=SIZE, source=source.id)

        made = repeated(copy)
        seconds.append(time.monotonic() - begun)
        deepest = max(deepest, _depth(pooled, view, view.image_id(made)))
        chain.append(made)
        if not kept:
            volume.delete(controller, chain.pop(0))
    _holds(view, made, GENERATIONS)
    assert deepest <= HARD_DEPTH
    newest = view.image_id(made)  # the others have snapshots, which their copies need
    commands.wait_until(lambda: newest not in CloneNotes(view.ioctx).deep(), "the chain is cut")
    assert _depth(pooled, view, newest) <= SOFT_DEPTH
    _holds(view, made, GENERATIONS)
    half = GENERATIONS // 2
    figures(
        f"chain of {GENERATIONS}, sources {'kept' if kept else 'deleted'}: at most {deepest} "
        f"ancestors, {sum(seconds[:half]) / half:.3f} s a copy in the first half, "
        f"{sum(seconds[half:]) / half:.3f} s in the second"
    )
    for each in chain:
        volume.delete(controller, each)
    _all_gone(view)


def test_dozens_of_rounds_of_snapshot_restore_and_delete_leave_nothing(
    controller: Driver, view: View, figures: Callable[[str], None]
) -> None:
    source, seconds = volume.create(controller, "source", size=SIZE), []
    for number in range(ROUNDS):
        _write(view, source, number)
        begun = time.monotonic()
        snapshot = snapshots.create(controller, f"snap-{number}", source.id)
        made = volume.create(controller, "restored", size=SIZE, source=snapshot.snapshot_id)
        _holds(view, made, number + 1)
        volume.delete(controller, made)
        snapshots.delete(controller, snapshot.snapshot_id)
        seconds.append(time.monotonic() - begun)
    half = ROUNDS // 2
    figures(
        f"{ROUNDS} rounds: {sum(seconds[:half]) / half:.3f} s each in the first half, "
        f"{sum(seconds[half:]) / half:.3f} s in the second"
    )
    commands.wait_until(lambda: view.images() == ["csi-source"], "copies are gone")
    commands.wait_until(lambda: not view.trashed(), "the trash is empty")
    with view.image(source) as image:
        assert list(image.list_snaps()) == []
    volume.delete(controller, source)
    _all_gone(view)


@pytest.fixture
def deep(controller: Driver, view: View) -> Iterator[Volume]:
    """Give a volume that another program has made the last of a long chain."""
    made = volume.create(controller, "deep", size=SIZE)
    name = "ancestor-0"
    rbd.RBD().rename(view.ioctx, "csi-deep", name)  # its metadata comes along with each clone
    for number in range(HARD_DEPTH):
        with rbd.Image(view.ioctx, name) as image:
            image.write(number.to_bytes(4, "big"), number * 4096)
            image.create_snap("s")
            image.protect_snap("s")
        clone = f"ancestor-{number + 1}"
        rbd.RBD().clone(view.ioctx, name, "s", view.ioctx, clone, features=61)
        name = clone
    with rbd.Image(view.ioctx, name) as image:
        location = ids.parse(made.id).location
        yield Volume(str(ids.VolumeHandle(location, image.id())), made.capability)
    for number in reversed(range(HARD_DEPTH)):
        rbd.RBD().remove(view.ioctx, f"ancestor-{number + 1}")
        with rbd.Image(view.ioctx, f"ancestor-{number}") as image:
            image.unprotect_snap("s")
            image.remove_snap("s")
    rbd.RBD().remove(view.ioctx, "ancestor-0")


def test_source_at_the_limit_is_refused_until_it_is_flattened(
    controller: Driver, view: View, deep: Volume
) -> None:
    def copy() -> Volume:
        return volume.create(controller, "copy", size=SIZE, source=deep.id)

    with refused("ABORTED", f"has {HARD_DEPTH} ancestors", "flattened in the background"):
        copy()
    made = repeated(copy)
    _holds(view, made, HARD_DEPTH)
    with view.image(deep) as image, pytest.raises(rbd.ImageNotFound):
        image.parent_info()
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))


def test_deep_image_with_a_snapshot_waits_for_its_deletion_and_the_metrics_say_so(
    controller: Driver,
    watched: tuple[Driver, Scrape],
    view: View,
    deep: Volume,
    cluster: Cluster,
) -> None:
    shell = Shell(driver.PROGRAM, controller.config, cluster)
    assert shell.json("volumes", "show", deep.id)["ancestors"] == HARD_DEPTH
    taken = snapshots.create(controller, "kept", deep.id)
    with refused("FAILED_PRECONDITION", "is not flattened while it has snapshots"):
        volume.create(controller, "copy", size=SIZE, source=deep.id)
    CloneNotes(view.ioctx).add_deep(ids.parse(deep.id).image_id, clock.now())
    looking, get = watched
    looking.start()
    waiting = f'rbdcsi_clones_waiting{{cluster="{CLUSTER_ID}"}}'
    commands.wait_until(lambda: f"{waiting} 1" in get("metrics"), "it waits")
    assert f'rbdcsi_clones_deep{{cluster="{CLUSTER_ID}"}} 0' in get("metrics")
    snapshots.delete(controller, taken.snapshot_id)
    commands.wait_until(lambda: f"{waiting} 0" in get("metrics"), "it is flattened", timeout=120)
    with view.image(deep) as image, pytest.raises(rbd.ImageNotFound):
        image.parent_info()


@pytest.fixture
def crowded(controller: Driver, view: View) -> Iterator[Volume]:
    """Give a volume that has nearly as many snapshots as an image may have."""
    made = volume.create(controller, "crowded", size=SIZE)
    header = objects.HEADER + view.image_id(made)
    with ThreadPoolExecutor(32) as threads:  # the monitors take several in one round
        snap_ids = threads.map(lambda _: view.ioctx.create_self_managed_snap(), range(CROWDED))
    taken = sorted(snap_ids)
    for snap_id in taken:
        argument = objects.counted(f"s{snap_id}") + struct.pack("<Q", snap_id)
        view.execute(header, "snapshot_add", argument)
    yield made
    for snap_id in taken:
        view.execute(header, "snapshot_remove", struct.pack("<Q", snap_id))
        view.ioctx.remove_self_managed_snap(snap_id)
    volume.delete(controller, made)
    _all_gone(view)


def test_copies_of_a_volume_with_many_snapshots_make_room_again(
    controller: Driver, view: View, crowded: Volume
) -> None:
    _write(view, crowded, 0)
    copy = volume.create(controller, "copy", size=SIZE, source=crowded.id)
    taken = snapshots.create(controller, "taken", crowded.id)
    restored = volume.create(controller, "restored", size=SIZE, source=taken.snapshot_id)
    notes = CloneNotes(view.ioctx)
    commands.wait_until(lambda: view.image_id(copy) not in notes.deep(), "it is flattened")
    with view.image(crowded) as image:  # librbd has removed the snapshot with its last clone
        assert [each["name"] for each in image.list_snaps()][CROWDED:] == ["csi-snap-taken"]
    with view.image(restored) as image:  # its snapshot is in use anyhow
        assert image.parent_info()
    snapshots.delete(controller, taken.snapshot_id)
    commands.wait_until(lambda: not notes.deep(), "it is flattened, too", timeout=120)
    with view.image(crowded) as image:
        assert len(list(image.list_snaps())) == CROWDED
    for each in (copy, restored):
        _holds(view, each, 1)
        volume.delete(controller, each)
