"""A move to the trash that was cut off is finished, by the repeated delete or by the sweeper."""

import functools
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import pytest
import rados
import rbd

from e2e import driver, leftovers, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.pool import image_id
from e2e.volume import MIB, Volume
from rbdcsi.attachments import rules, store
from rbdcsi.ceph import connections, objects, trash
from rbdcsi.ceph.trash import Entry, State
from rbdcsi.config import clusters_file
from rbdcsi.volumes.purge import Purger
from tests import dying
from tests.integration.controller import at_once
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

# How far librbd came: what it does after it has written the entry.
STEPS = ["entry", "name object", "directory"]
KILLS = 12

# Moves the image that its standard input names to the trash.
MOVER = """
import sys, rados, rbd
conf, user, keyring, pool = sys.argv[1:]
with rados.Rados(name=f"client.{user}", conffile=conf, conf={"keyring": keyring}) as cluster:
    with cluster.open_ioctx(pool) as ioctx:
        rbd.RBD().list(ioctx)
        print("ready", flush=True)
        rbd.RBD().trash_move(ioctx, sys.stdin.readline().strip(), 0)
"""

# Takes a move for cut off at once.
_SWEEP = """
import time
from rbdcsi.volumes.purge import Purger

Purger(sys.argv[2], pooled, pooled, move_seconds=0).start()
time.sleep(60)
"""


@pytest.fixture
def sweeper(controller: Driver) -> Iterator[Purger]:
    """Give a sweeper that takes a move for cut off after a second."""
    configured = clusters_file.load(controller.config)
    pooled, apart = (connections.Connections(configured, timeout=10) for _ in range(2))
    made = Purger(driver.CLUSTER_ID, pooled, apart, move_seconds=1)
    yield made
    made.stop()


def _entry(view: View, made: Volume) -> Entry | None:
    return trash.begin_entry(view.ioctx, image_id(made)).result()


def _mark_deleting(view: View, made: Volume) -> None:
    store.Records(view.ioctx).change(
        image_id(made), lambda record: rules.begin_delete(record, made.id, "2026-01-01T00:00:00Z")
    )


def _execute(view: View, name: str, method: str, argument: bytes) -> None:
    with rados.WriteOpCtx() as operation:
        operation.execute("rbd", method, argument)
        view.ioctx.operate_write_op(operation, name)


def _cut_off(view: View, made: Volume, step: str) -> None:
    """Leave what librbd leaves when it dies after that step of the move."""
    name, found = made.context["imageName"], image_id(made)
    _mark_deleting(view, made)
    rbd.RBD().trash_move(view.ioctx, name)
    states = bytes((State.MOVING.value, State.NORMAL.value))
    _execute(view, objects.TRASH, "trash_state_set", objects.counted(found) + states)
    if step != "directory":
        both = objects.counted(name) + objects.counted(found)
        _execute(view, objects.DIRECTORY, "dir_add_image", both)
    if step == "entry":
        view.ioctx.write_full(objects.ID + name, objects.counted(found))
    assert _entry(view, made) == Entry(name, State.MOVING)


def test_an_entry_is_read_as_librbd_shows_it(view: View) -> None:
    names = {"plain", "ümlaut-" + "x" * 60}
    for name in names:
        rbd.RBD().create(view.ioctx, name, MIB, old_format=False)
        rbd.RBD().trash_move(view.ioctx, name)
    try:
        listed = {entry["id"]: entry["name"] for entry in rbd.RBD().trash_list(view.ioctx)}
        assert set(listed.values()) == names
        for found, name in listed.items():
            assert trash.begin_entry(view.ioctx, found).result() == Entry(name, State.NORMAL)
        assert trash.begin_entry(view.ioctx, "123456").result() is None
    finally:
        for found in view.trashed():
            rbd.RBD().trash_remove(view.ioctx, found)


@pytest.mark.parametrize("step", STEPS)
def test_librbd_removes_no_image_whose_move_was_cut_off(
    controller: Driver, view: View, step: str
) -> None:
    made = volume.create(controller, "stuck", size=16 * MIB)
    _cut_off(view, made, step)
    with pytest.raises(rbd.OSError, match=r"EUCLEAN|117|error"):
        rbd.RBD().trash_remove(view.ioctx, image_id(made))
    volume.delete(controller, made)
    view.wait_until_gone(image_id(made))


def test_finishing_a_move_twice_or_late_changes_nothing(controller: Driver, view: View) -> None:
    made = volume.create(controller, "twice", size=16 * MIB)
    _cut_off(view, made, "entry")
    found, name = image_id(made), made.context["imageName"]
    for state in (State.NORMAL, State.NORMAL, State.REMOVING):
        if state is State.REMOVING:
            states = bytes((State.REMOVING.value, State.NORMAL.value))
            _execute(view, objects.TRASH, "trash_state_set", objects.counted(found) + states)
        trash.finish_move(view.ioctx, found, name)
        assert _entry(view, made) == Entry(name, state)
    volume.delete(
        controller, volume.create(controller, "other", size=16 * MIB)
    )  # wakes the sweeper
    view.wait_until_gone(found)
    trash.finish_move(view.ioctx, found, name)
    assert _entry(view, made) is None


@pytest.mark.parametrize("step", STEPS)
def test_repeated_delete_finishes_the_move(controller: Driver, view: View, step: str) -> None:
    made = volume.create(controller, "repeated", size=16 * MIB)
    _cut_off(view, made, step)
    volume.delete(controller, made)
    entry = _entry(view, made)
    assert entry is None or entry.state is not State.MOVING
    assert view.images() == []
    view.wait_until_gone(image_id(made))
    again = volume.create(controller, "repeated", size=16 * MIB)
    volume.delete(controller, again)


@pytest.mark.parametrize("step", STEPS)
def test_sweeper_finishes_the_move_of_a_volume_that_is_not_deleted_again(
    controller: Driver, view: View, sweeper: Purger, step: str
) -> None:
    made = volume.create(controller, "swept", size=16 * MIB)
    _cut_off(view, made, step)
    sweeper.start()
    view.wait_until_gone(image_id(made))
    assert view.images() == []


def test_move_that_two_processes_die_in_is_finished(controller: Driver, view: View) -> None:
    made = volume.create(controller, "twice", size=16 * MIB)
    controller.stop()
    _cut_off(view, made, "name object")
    dying.in_work(_SWEEP, controller.config, "delete.move")
    controller.start()
    view.wait_until_gone(image_id(made))
    assert (view.images(), view.trashed()) == ([], [])


def test_move_that_may_be_under_way_is_left_alone(controller: Driver, view: View) -> None:
    made, other = (volume.create(controller, name, size=16 * MIB) for name in ("moving", "other"))
    _cut_off(view, made, "name object")
    volume.delete(controller, other)
    view.wait_until_gone(image_id(other))  # a whole sweep has been made
    assert _entry(view, made) == Entry("csi-moving", State.MOVING)
    assert "to be repeated" not in controller.words()
    volume.delete(controller, made)


@pytest.mark.parametrize("by", ["delete", "sweeper"])
def test_newer_image_of_the_same_name_stays(
    controller: Driver, view: View, sweeper: Purger, by: str
) -> None:
    old = volume.create(controller, "same-name", size=16 * MIB)
    _cut_off(view, old, "directory")
    new = volume.create(controller, "same-name", size=16 * MIB)
    assert new.id != old.id
    with view.image(new, readonly=False) as image:
        image.write(b"data", 0)
    if by == "delete":
        volume.delete(controller, old)
    else:
        sweeper.start()
    view.wait_until_gone(image_id(old))
    assert view.images() == ["csi-same-name"]
    assert volume.create(controller, "same-name", size=16 * MIB).id == new.id
    with rbd.Image(view.ioctx, "csi-same-name", read_only=True) as image:
        assert (image.id(), image.read(0, 4)) == (image_id(new), b"data")
    volume.delete(controller, new)


def test_mover_killed_at_any_moment_leaves_nothing_that_delete_does_not_remove(
    controller: Driver,
    view: View,
    cluster: Cluster,
    admin: rados.Rados,
    figures: Callable[[str], None],
) -> None:
    seed = random.randrange(1 << 32)
    chance, left_moving = random.Random(seed), 0
    before = set(leftovers.blocklisted(admin))
    all_made = []
    for number in range(KILLS):
        made = volume.create(controller, f"killed-{number}", size=16 * MIB)
        all_made.append(made)
        _mark_deleting(view, made)
        _kill_in_the_middle(cluster, view, made, chance.uniform(0, 0.004))
        entry = _entry(view, made)
        left_moving += entry is not None and entry.state is State.MOVING
        at_once.repeated(functools.partial(volume.delete, controller, made))
    figures(f"trash moves: {left_moving} cut off / {KILLS} kills, seed {seed}")
    assert left_moving
    # Ceph keeps the watches of the killed ones for half a minute
    commands.wait_until(lambda: view.trashed() == [], "the data is removed", timeout=120)
    for made in all_made:
        view.wait_until_gone(image_id(made))
    # librbd shuts out a dead owner of an image's lock
    for address in set(leftovers.blocklisted(admin)) - before:
        cluster.ceph("osd", "blocklist", "rm", address)


def _kill_in_the_middle(cluster: Cluster, view: View, made: Volume, seconds: float) -> None:
    """Kill a process that moves the image so long after its entry is seen in the trash."""
    pool = view.ioctx.get_pool_name()
    arguments = (str(cluster.conf), cluster.user, str(cluster.keyring), pool)
    with subprocess.Popen(
        (sys.executable, "-c", MOVER, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as mover:
        assert mover.stdin
        assert mover.stdout
        assert mover.stdout.readline() == "ready\n"
        mover.stdin.write(f"{made.context['imageName']}\n")
        mover.stdin.flush()
        ends_at = time.monotonic() + 20
        while _entry(view, made) is None and time.monotonic() < ends_at:
            pass  # a pause would be longer than a move
        time.sleep(seconds)
        mover.kill()


def test_many_deletes_at_once_warn_of_nothing(
    installation: driver.Installation, view: View
) -> None:
    controller = installation.controller("busy").start()
    with futures.ThreadPoolExecutor(8) as threads:
        all_made = list(
            threads.map(
                lambda number: volume.create(controller, f"many-{number}", size=16 * MIB), range(50)
            )
        )
        list(threads.map(lambda made: volume.delete(controller, made), all_made))
    for made in all_made:
        view.wait_until_gone(image_id(made))
    commands.wait_until(lambda: view.trashed() == [], "the trash is empty")
    controller.stop()
    words = controller.words()
    assert "delete.data" in words
    assert [line for line in words.splitlines() if "warning" in line] == []
