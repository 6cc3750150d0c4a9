"""A controller that dies while it makes a copy: the call again succeeds, and nothing is left."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
import rbd

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.ceph import connections
from rbdcsi.config import clusters_file
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 16 * MIB
DATA = b"data of the source" * 100
KILLS = 8

OF_A_SNAPSHOT = (
    "clone.note",
    "clone.image",
    "clone.resize",
    "clone.metadata",
    "rename.entry",
    "clone.name",
    "clone.end",
)
STEPS = (*OF_A_SNAPSHOT, "clone.snapshot", "clone.release")


@pytest.fixture(scope="module")
def mortal(installation: driver.Installation) -> Driver:
    """Give a controller that is not running."""
    return installation.controller("mortal")


@pytest.fixture(autouse=True)
def stopped_after(mortal: Driver, nothing_left: None) -> Iterator[None]:
    assert nothing_left is None  # it looks when the process is gone
    yield
    mortal.stop()


@pytest.fixture
def tidy(controller: Driver) -> Callable[[], object]:
    """Give the work that removes what ended attempts have left, now and not in ten minutes."""
    configured = clusters_file.load(controller.config)
    pooled = connections.Connections(configured, timeout=10)
    return CloneUpkeep(driver.CLUSTER_ID, pooled, pooled, attempt_seconds=0, round_seconds=0).run


@pytest.fixture
def source(controller: Driver, view: View) -> Iterator[Volume]:
    made = volume.create(controller, "source", size=SIZE)
    with view.image(made, readonly=False) as image:
        image.write(DATA, 8 * MIB)
    yield made
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))
    assert view.images() == []
    assert view.trashed() == []


def _copy(controller: Driver, source: Volume) -> Volume:
    return volume.create(controller, "copy", size=2 * SIZE, source=source.id)


def _is_whole(view: View, made: Volume) -> None:
    with view.image(made) as image:
        assert image.size() == 2 * SIZE
        assert image.read(8 * MIB, len(DATA)) == DATA
        assert image.parent_info()[1] == "csi-source"


def _nothing_but(view: View, source: Volume) -> None:
    """Check that the copy, the source and one nameless snapshot are all there is."""
    assert CloneNotes(view.ioctx).attempts() == {}
    assert view.images() == ["csi-copy", "csi-source"]
    assert view.trashed() == []
    with view.image(source) as image:
        snapshots = list(image.list_snaps())
        assert [each for each in snapshots if each["namespace"] == 0] == []
        assert len(snapshots) == 1


@pytest.mark.parametrize("step", STEPS)
def test_copy_killed_after_a_step_is_made_by_the_call_again(
    mortal: Driver,
    controller: Driver,
    view: View,
    source: Volume,
    step: str,
    tidy: Callable[[], object],
) -> None:
    mortal.start(kill_after=step)
    with refused("UNAVAILABLE"):
        _copy(mortal, source)
    mortal.wait_for_death()
    mortal.stop()

    made = _copy(mortal.start(), source)
    _is_whole(view, made)
    assert _copy(mortal, source) == made
    tidy()
    _nothing_but(view, source)
    _is_whole(view, made)
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))


@pytest.mark.parametrize("step", STEPS)
def test_copy_that_is_not_asked_for_again_leaves_nothing(
    mortal: Driver,
    controller: Driver,
    view: View,
    source: Volume,
    step: str,
    tidy: Callable[[], object],
) -> None:
    mortal.start(kill_after=step)
    with refused("UNAVAILABLE"):
        _copy(mortal, source)
    mortal.wait_for_death()
    tidy()
    assert CloneNotes(view.ioctx).attempts() == {}
    if step in {"rename.entry", "clone.name", "clone.end"}:
        made = _copy(controller, source)  # it is a volume: DeleteVolume needs its id
        _is_whole(view, made)
        volume.delete(controller, made)
        view.wait_until_gone(view.image_id(made))
    assert view.images() == ["csi-source"]
    with view.image(source) as image:
        assert list(image.list_snaps()) == []


def test_copy_killed_at_any_moment_is_made_by_the_call_again(
    mortal: Driver,
    controller: Driver,
    view: View,
    source: Volume,
    tidy: Callable[[], object],
    figures: Callable[[str], None],
) -> None:
    seed = random.randrange(1 << 32)
    chance, cut_off = random.Random(seed), 0
    for _ in range(KILLS):
        mortal.start()

        def call() -> None:
            with contextlib.suppress(grpc.RpcError):
                _copy(mortal, source)

        calling = threading.Thread(target=call)
        calling.start()
        time.sleep(chance.uniform(0, 0.4))
        mortal.kill()
        calling.join()
        cut_off += bool(CloneNotes(view.ioctx).attempts())
        made = _copy(controller, source)
        _is_whole(view, made)

        def tidied() -> bool:
            tidy()
            return not CloneNotes(view.ioctx).attempts()

        # Ceph drops the watch of a dead client after 30 s.
        commands.wait_until(tidied, "what the attempt left is removed", timeout=60)
        _nothing_but(view, source)
        _is_whole(view, made)
        volume.delete(controller, made)
        view.wait_until_gone(view.image_id(made))
    figures(f"copies: {cut_off} cut off / {KILLS} kills, seed {seed}")


def test_attempt_that_is_slow_fails_and_harms_nothing(
    controller: Driver, view: View, source: Volume, tidy: Callable[[], object]
) -> None:
    ends = threading.Event()

    def tidying() -> None:
        while not ends.is_set():
            tidy()

    worker = threading.Thread(target=tidying)
    worker.start()
    made = None
    try:
        for _ in range(5):
            with contextlib.suppress(grpc.RpcError):
                made = _copy(controller, source)
    finally:
        ends.set()
        worker.join()
    made = made or _copy(controller, source)
    _is_whole(view, made)
    tidy()
    _nothing_but(view, source)
    assert {each["name"] for each in rbd.RBD().list2(view.ioctx)} == {"csi-copy", "csi-source"}
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))
