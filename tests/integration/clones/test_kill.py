"""A controller that dies while it makes a copy: the call again succeeds, and nothing is left."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from e2e import driver, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.ceph.locations import Locations
from rbdcsi.config import clusters_file
from rbdcsi.model import ids, storage_class
from rbdcsi.telemetry import steps
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from rbdcsi.volumes.create import Provisioner
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request
from tests import dying
from tests.integration.clones import chains
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 16 * MIB
DATA = b"data of the source" * 100
KILLS, MOST_KILLS = 8, 24

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
# After these an attempt has made something, and the copy has not its name yet.
UNFINISHED = ("clone.snapshot", "clone.image", "clone.release", "clone.resize", "clone.metadata")

# Removes what ended attempts have left, now and not in fifteen minutes.
_TIDY = """
from rbdcsi.volumes.clone_upkeep import CloneUpkeep

CloneUpkeep(sys.argv[2], pooled, pooled, attempt_seconds=0).run()
"""


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
    """Give the work that removes what ended attempts have left, now and not in fifteen minutes."""
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


def test_tidying_that_dies_leaves_nothing(
    mortal: Driver, view: View, source: Volume, tidy: Callable[[], object]
) -> None:
    mortal.start(kill_after="clone.image")
    with refused("UNAVAILABLE"):
        _copy(mortal, source)
    mortal.wait_for_death()
    dying.in_work(_TIDY, mortal.config, "clone.undone")
    chains.end_lease(view.ioctx)
    tidy()
    assert CloneNotes(view.ioctx).attempts() == {}
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
    chance, kills, cut_off = random.Random(seed), 0, 0
    while kills < KILLS or (not cut_off and kills < MOST_KILLS):
        kills += 1
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
    figures(f"copies: {cut_off} cut off / {kills} kills, seed {seed}")
    assert cut_off


@pytest.mark.parametrize("step", STEPS)
def test_attempt_that_is_slow_harms_nothing(
    controller: Driver,
    view: View,
    source: Volume,
    tidy: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """It is taken for one that has ended, and what it has made so far is removed."""
    done, tidied = steps.done, list[str]()

    def tidied_after(name: str, **facts: object) -> None:
        done(name, **facts)
        if name == step and not tidied:
            tidied.append(name)
            tidy()

    monkeypatch.setattr(steps, "done", tidied_after)
    fails = pytest.raises(errors.RbdCsiError) if step in UNFINISHED else contextlib.nullcontext()
    with fails:
        _copy_in_this_process(controller, source)
    assert tidied == [step]
    if step in UNFINISHED:
        assert view.images() == ["csi-source"]
    made = _copy(controller, source)
    _is_whole(view, made)
    tidy()
    _nothing_but(view, source)
    volume.delete(controller, made)
    view.wait_until_gone(view.image_id(made))


def _copy_in_this_process(controller: Driver, source: Volume) -> None:
    pooled = connections.Connections(clusters_file.load(controller.config), timeout=10)
    provisioner = Provisioner(pooled, Placement(pooled, Locations(pooled)))
    parameters = storage_class.parse({})
    content = ids.parse(source.id)
    provisioner.create(Request("copy", 2 * SIZE, 0, "ext4", parameters, content=content))
