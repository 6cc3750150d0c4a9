"""The node plugin dies by SIGKILL after any step; the same call to a new one finishes the work."""

import contextlib
import os
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from e2e import volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.attachments.records import State
from rbdcsi.model.format_mark import Mark, Phase
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

CAPABILITIES = {"filesystem": volume.mounted(), "block": volume.raw()}
STAGE = ["stage.note", "stage.map", "stage.record", "stage.mount"]
FORMAT = ["stage.formatting", "stage.mkfs", "stage.formatted"]
UNSTAGE = ["unstage.unmount", "unstage.unmap", "unstage.record"]


def dying_after(step: str, node: Driver, call: Callable[[Driver], object]) -> None:
    """Make the call to a process that dies after that step, and start another."""
    node.stop()
    node.start(kill_after=step)
    with refused("UNAVAILABLE"):
        call(node)
    node.wait_for_death()
    node.stop()
    labs.start_reconciled(node)


@pytest.mark.parametrize(
    ("kind", "step"),
    [(kind, step) for kind in CAPABILITIES for step in STAGE]
    + [("filesystem", step) for step in FORMAT],
)
def test_stage_repeated_after_a_crash_carries_on(
    lab: Lab, victim: Driver, kind: str, step: str
) -> None:
    with lab.volume("crash-stage", at=victim, capability=CAPABILITIES[kind]) as made:
        dying_after(step, victim, lambda node: volume.stage(node, made))
        volume.stage(victim, made)

        assert len(labs.daemons(victim)) == len(labs.loop_devices(victim)) == 1
        held = lab.record(made, victim)
        assert (held.state, {held.client}) == (State.STAGED, lab.watchers(made))
        if kind == "filesystem":
            assert lab.mark(made) == Mark(Phase.FORMATTED, "ext4")
        _write_and_read_again(victim, made)


def test_stage_that_dies_after_it_unmapped_an_older_device_is_repeated(
    lab: Lab, victim: Driver
) -> None:
    with lab.volume("crash-older", at=victim, capability=volume.raw()) as made:
        dying_after("stage.record", victim, lambda node: volume.stage(node, made))
        lab.make_read_only(made, victim)
        dying_after("stage.unmap", victim, lambda node: volume.stage(node, made))
        volume.stage(victim, made)
        assert len(labs.daemons(victim)) == len(labs.loop_devices(victim)) == 1
        attachment = lab.record(made, victim)
        assert (attachment.state, {attachment.client}) == (State.STAGED, lab.watchers(made))


@pytest.mark.parametrize("step", [*STAGE, *FORMAT])
def test_unstage_after_a_crash_in_stage_leaves_nothing(lab: Lab, victim: Driver, step: str) -> None:
    with lab.volume("crash-back", at=victim) as made:
        dying_after(step, victim, lambda node: volume.stage(node, made))
        volume.unstage(victim, made)

        assert labs.held_at(victim) == []
        assert lab.watchers(made) == set()
        assert lab.record(made, victim).client is None


@pytest.mark.parametrize("kind", CAPABILITIES)
@pytest.mark.parametrize("step", UNSTAGE)
def test_unstage_repeated_after_a_crash_finishes(
    lab: Lab, victim: Driver, kind: str, step: str
) -> None:
    with lab.volume("crash-unstage", at=victim, capability=CAPABILITIES[kind]) as made:
        volume.stage(victim, made)
        dying_after(step, victim, lambda node: volume.unstage(node, made))
        volume.unstage(victim, made)

        assert labs.held_at(victim) == []
        assert lab.record(made, victim).state is State.RELEASED
        assert lab.watchers(made) == set()


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_publish_and_unpublish_repeated_after_a_crash_finish(
    lab: Lab, victim: Driver, kind: str
) -> None:
    with lab.volume("crash-publish", at=victim, capability=CAPABILITIES[kind]) as made:
        volume.stage(victim, made)
        dying_after("publish.mount", victim, lambda node: volume.publish(node, made))
        target = volume.publish(victim, made)
        assert [entry.target for entry in labs.mounts(victim)].count(target) == 1
        dying_after("unpublish.unmount", victim, lambda node: volume.unpublish(node, made))
        volume.unpublish(victim, made)
        assert not target.exists()


def test_workload_goes_on_while_the_plugin_is_dead_and_after_it_is_back(
    lab: Lab, victim: Driver
) -> None:
    with lab.volume("crash-in-use", at=victim) as made:
        volume.stage(victim, made)
        target = volume.publish(victim, made)
        before = labs.held_at(victim)
        with (target / "file").open("wb", buffering=0) as opened:
            victim.kill()
            opened.write(b"while dead,")
            os.fsync(opened.fileno())
            victim.start()
            opened.write(b" and after")
            os.fsync(opened.fileno())
        assert labs.held_at(victim) == before
        volume.stage(victim, made)
        volume.publish(victim, made)
        assert labs.held_at(victim) == before
        assert (target / "file").read_bytes() == b"while dead, and after"


def _refused_as_dead() -> contextlib.AbstractContextManager[None]:
    return refused("FAILED_PRECONDITION", "has ended", "unstaged and staged again")


def test_dead_device_is_said_and_staged_anew_with_what_was_synced(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("crash-device") as made:
        volume.stage(node, made)
        _write_synced(made.staging(node) / "file", b"synced")
        dead = lab.record(made, node).client
        (pid,) = labs.daemons(node).values()
        faults.kill9(pid)

        with _refused_as_dead():
            volume.publish(node, made)
        with _refused_as_dead():
            volume.stage(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []

        volume.stage(node, made)
        assert (made.staging(node) / "file").read_bytes() == b"synced"
        assert [fence.address for fence in lab.fences()] in ([dead], [])  # its watch is ended
    lab.lift_fences()


def test_dead_device_is_said_whose_directories_nobody_has_read(lab: Lab) -> None:
    """A look into its filesystem has to read, and fails."""
    node = lab.nodes[0]
    with lab.volume("crash-unread") as made:
        volume.stage(node, made)
        _write_synced(made.staging(node) / "file", b"synced")
        volume.unstage(node, made)
        volume.stage(node, made)
        (pid,) = labs.daemons(node).values()
        faults.kill9(pid)
        with _refused_as_dead():
            volume.stage(node, made)
        with _refused_as_dead():
            volume.expand_on_node(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []
    lab.lift_fences()


def test_call_under_way_ends_before_the_plugin_does_and_new_ones_are_refused(
    lab: Lab, victim: Driver
) -> None:
    with (
        lab.volume("drain", at=victim) as made,
        futures.ThreadPoolExecutor() as background,
    ):
        under_way = background.submit(volume.stage, victim, made)
        commands.wait_until(lambda: bool(labs.daemons(victim)), "it maps")
        assert victim.process
        victim.process.terminate()
        under_way.result()
        victim.wait_for_death()
        with pytest.raises(grpc.RpcError):
            volume.publish(victim, made)
        assert victim.process.returncode == 0
        victim.stop()
        victim.start()
        assert volume.publish(victim, made).is_mount()


def _write_and_read_again(node: Driver, made: Volume) -> None:
    target = volume.publish(node, made)
    file = target / "file" if target.is_dir() else target
    _write_synced(file, b"data" * 1024)
    with file.open("rb", buffering=0) as opened:
        assert opened.read(4096) == b"data" * 1024


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as opened:
        opened.write(data)
        os.fsync(opened.fileno())
