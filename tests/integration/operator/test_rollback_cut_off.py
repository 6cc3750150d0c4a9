"""A rollback that is cut off is finished by its repeat; until then, the volume is of no other use.

Two processes at once, or one that was frozen: Ceph lets one of them change the image.
"""

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
import rados

from e2e import leftovers, snapshots, volume
from e2e.clusters import commands
from e2e.volume import MIB, Volume
from rbdcsi.attachments.records import Rollback
from rbdcsi.ceph import connections
from rbdcsi.config import clusters_file
from rbdcsi.model import ids
from rbdcsi.operator import rollback
from tests.integration.operator.rollback_bed import SIZE, Bed
from tests.refusal import refused

pytestmark = [
    pytest.mark.usefixtures("nothing_left", "no_fences_left"),
    pytest.mark.timeout(400),
]

OLD, NEW = b"old " * MIB, b"new " * MIB
ROUNDS = 3
ATTEMPTS = 30
STEPS = (
    "rollback.record",
    "rollback.protect",
    "rollback.data",
    "rollback.size",
    "rollback.object_map",
    "rollback.mark",
    "rollback.unprotect",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_repeat_finishes_it(bed: Bed, raw: Volume, step: str) -> None:
    bed.put(raw, OLD, 0, 16 * MIB)
    taken, content = bed.snapshot(raw, f"target of {step}"), bed.view.content(raw)
    volume.expand(bed.controller, raw, 2 * SIZE)
    bed.put(raw, NEW, 0, 8 * MIB, 2 * SIZE - 4 * MIB)
    killed = bed.run(raw, taken, kill_after=step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _require_fenced(bed, raw, taken)
    bed.roll_back(raw, taken)
    assert bed.view.content(raw) == content + bytes(SIZE)
    volume.attach(bed.controller, raw, "node-a")


def _require_fenced(bed: Bed, made: Volume, taken: str) -> None:
    """Check that everything else is refused, and told the command that goes on."""
    again = f"rbdcsi volumes rollback {made.id} {taken}"
    with refused("FAILED_PRECONDITION", "mix of old and new", again):
        volume.attach(bed.controller, made, "node-a")
    with refused("FAILED_PRECONDITION", again):
        volume.delete(bed.controller, made)
    with refused("FAILED_PRECONDITION", again):
        volume.expand(bed.controller, made, 4 * SIZE)
    with refused("FAILED_PRECONDITION", again):
        snapshots.create(bed.controller, "in between", made.id)
    with refused("FAILED_PRECONDITION", again):
        volume.create(bed.controller, "copied", size=2 * SIZE, source=made.id)
    with refused("FAILED_PRECONDITION", again):
        snapshots.delete(bed.controller, taken)


def test_after_its_last_step_nothing_is_left_to_do(bed: Bed, raw: Volume) -> None:
    bed.put(raw, OLD, 0)
    taken = bed.snapshot(raw, "of the last step")
    bed.put(raw, NEW, 0)
    assert bed.run(raw, taken, kill_after="rollback.end").returncode == -signal.SIGKILL
    bed.require_sound(raw)
    assert bed.view.content(raw, 0, len(OLD)) == OLD


def test_one_that_dies_after_it_ended_the_first_is_finished(bed: Bed, raw: Volume) -> None:
    bed.put(raw, OLD, 0)
    taken, content = bed.snapshot(raw, "of the third"), bed.view.content(raw)
    bed.put(raw, NEW, 0)
    for step in ("rollback.data", "rollback.blocklist"):
        killed = bed.run(raw, taken, kill_after=step)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    _require_fenced(bed, raw, taken)
    # No record names the second one, so it may be anything that has the image open.
    commands.wait_until(lambda: not bed.view.watchers(raw), "its watch has ended")
    bed.roll_back(raw, taken)
    assert bed.view.content(raw) == content


def test_it_is_shown_and_may_end_at_another_snapshot(bed: Bed, raw: Volume) -> None:
    bed.put(raw, OLD, 0)
    older = bed.snapshot(raw, "older")
    bed.put(raw, NEW, 0)
    newer = bed.snapshot(raw, "newer")
    assert bed.run(raw, older, kill_after="rollback.data").returncode == -signal.SIGKILL
    (row,) = bed.shell.json("volumes", "ls")
    assert row["state"] == "rolling back"
    assert bed.shell.json("volumes", "show", raw.id)["rollback"]["snapshot"] == older
    with bed.view.image(raw) as image:
        name = image.get_name()
    pool = bed.view.ioctx.get_pool_name()
    done = bed.shell.run("volumes", "adopt", f"{pool}/{name}", "--block", "--yes")
    assert (done.returncode, "is being rolled back" in done.stderr) == (1, True), done.stderr
    bed.roll_back(raw, newer)
    assert bed.view.content(raw, 0, len(NEW)) == NEW


def test_no_snapshot_stays_protected_after_two_that_were_cut_off(bed: Bed, raw: Volume) -> None:
    bed.put(raw, OLD, 0)
    first, second = bed.snapshot(raw, "first of two"), bed.snapshot(raw, "second of two")
    assert bed.run(raw, first, kill_after="rollback.protect").returncode == -signal.SIGKILL
    assert bed.run(raw, second, kill_after="rollback.record").returncode == -signal.SIGKILL
    bed.roll_back(raw, second)
    for taken in (first, second):
        snapshots.delete(bed.controller, taken)


def test_it_is_killed_anywhere_inside_librbd(bed: Bed) -> None:
    made = volume.create(bed.controller, "anywhere", size=256 * MIB, capability=volume.raw())
    bed.put(made, OLD, *range(0, made.size, 8 * MIB))
    taken, checksum = bed.snapshot(made, "of anywhere"), bed.view.checksum(made)
    rng, rounds, cut_off = random.Random(1), 0, 0
    while rounds < ROUNDS or (not cut_off and rounds < ATTEMPTS):
        rounds += 1
        if not bed.view.record(made).rollback:
            bed.put(made, NEW, *range(0, made.size, 4 * MIB))
        with bed.begin(made, taken) as process:
            _wait_until_begun(bed, made, bed.view.record(made).rollbacks)
            time.sleep(rng.random() / 4)
            process.kill()
        if bed.view.record(made).rollback:
            cut_off += 1
            with refused("FAILED_PRECONDITION", "mix of old and new"):
                volume.attach(bed.controller, made, "node-a")
    assert cut_off
    bed.roll_back(made, taken)
    assert bed.view.checksum(made) == checksum
    bed.remove(made)


def _wait_until_begun(bed: Bed, made: Volume, before: int) -> None:
    commands.wait_until(lambda: bed.view.record(made).rollbacks > before, "it has begun")


@contextlib.contextmanager
def _stopped_on_its_way(
    bed: Bed, made: Volume, snapshot: str
) -> Iterator[tuple[subprocess.Popen[str], Rollback]]:
    """Give a process that was stopped in the middle of a rollback, and what it has recorded."""
    for _ in range(ATTEMPTS):
        before = bed.view.record(made).rollbacks
        with bed.begin(made, snapshot) as process:
            _wait_until_begun(bed, made, before)
            process.send_signal(signal.SIGSTOP)
            if rollback := bed.view.record(made).rollback:
                yield process, rollback
                return
            process.send_signal(signal.SIGCONT)  # it has ended before
    raise AssertionError(f"no process was stopped on its way in {ATTEMPTS} attempts")


def test_a_frozen_process_changes_nothing_after_another_one_went_on(
    bed: Bed, raw: Volume, admin: rados.Rados
) -> None:
    bed.put(raw, OLD, 0, 16 * MIB)
    taken = bed.snapshot(raw, "of the frozen")
    bed.put(raw, NEW, *range(0, SIZE, 4 * MIB))
    with _stopped_on_its_way(bed, raw, taken) as (process, rollback):
        try:
            bed.roll_back(raw, taken)
            assert rollback.client in set(leftovers.blocklisted(admin))
            bed.put(raw, b"since", 0)
        finally:
            process.send_signal(signal.SIGCONT)
        _, words = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in words) == (1, False), words
    bed.require_sound(raw)
    assert bed.view.content(raw, 0, 8) == b"since" + OLD[5:8]


def test_of_two_at_once_one_does_it(bed: Bed, raw: Volume) -> None:
    bed.put(raw, OLD, 0)
    taken = bed.snapshot(raw, "of two")
    for _ in range(ROUNDS):
        bed.put(raw, NEW, 0, 8 * MIB)
        both = [bed.begin(raw, taken) for _ in range(2)]
        words = [each.communicate(timeout=120)[1] for each in both]
        assert 0 in {each.returncode for each in both}, words
        assert not any("Traceback" in each for each in words), words
        bed.require_sound(raw)
        assert bed.view.content(raw) == OLD + bytes(SIZE - len(OLD))


def test_one_that_gives_way_to_it_is_waited_for(bed: Bed, raw: Volume) -> None:
    """The other process has opened the image, and then finds this one's record."""
    bed.put(raw, OLD, 0)
    taken = bed.snapshot(raw, "of the first")
    bed.put(raw, NEW, 0)
    pooled = connections.Connections(clusters_file.load(bed.shell.config), timeout=10)
    plan = rollback.examine(pooled, ids.parse(raw.id), taken)
    with futures.ThreadPoolExecutor(1) as background:
        with bed.view.image(raw, readonly=False):
            call = background.submit(rollback.carry_out, pooled, plan)
            _wait_until_begun(bed, raw, 0)
            time.sleep(1)
            assert not call.done()
        call.result()
    bed.require_sound(raw)
    assert bed.view.content(raw, 0, len(OLD)) == OLD


def test_an_attach_waits_until_it_has_ended(bed: Bed, made: Volume) -> None:
    bed.write(made, {"file": "kept"})
    taken = bed.snapshot(made, "of the attach")
    bed.write(made, {"file": "lost"})
    with bed.begin(made, taken) as process:
        _wait_until_begun(bed, made, 0)
        volume.until_let_through(lambda: volume.attach(bed.controller, made, "node-b"))
        assert bed.view.record(made).rollback is None
        assert bed.files(made) == {"file": "kept"}
        assert process.wait(timeout=60) == 0


def test_its_snapshot_is_deleted_at_the_same_moment(bed: Bed, raw: Volume) -> None:
    """Without protection, OSDs would remove the objects that they should roll back."""
    for number in range(ROUNDS):
        bed.put(raw, OLD, 0)
        taken = bed.snapshot(raw, f"race {number}")
        bed.put(raw, NEW, 0)
        with bed.begin(raw, taken) as process:
            try:
                _wait_until_begun(bed, raw, number)
                snapshots.delete(bed.controller, taken)
                is_deleted = True
            except grpc.RpcError:
                is_deleted = False
            _, words = process.communicate(timeout=120)
        expected = OLD if process.returncode == 0 else NEW
        assert is_deleted or process.returncode == 0, words
        assert bed.view.content(raw, 0, len(OLD)) == expected
        bed.require_sound(raw)
        snapshots.delete(bed.controller, taken)
