"""Snapshots for which the node freezes the filesystem; whatever dies, it is thawed."""

import contextlib
import functools
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import grpc
import pytest

from e2e import driver, groups, processes, snapshots, volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store
from rbdcsi.ceph import snapshots as rbd_snapshots
from rbdcsi.model import ids
from rbdcsi.nodes.freeze_messages import FreezeState
from rbdcsi.snapshots import freezing
from rbdcsi.staging.unstage import Unstager
from tests import dying, faults
from tests.integration.controller import at_once
from tests.integration.node import lab as labs
from tests.integration.node.freezes import freeze, is_frozen, order, wait_until_lost
from tests.integration.node.lab import MIB, Lab, node_id
from tests.integration.node.reconciling import this_node
from tests.integration.node.writer import Writer, count, writing
from tests.refusal import refused
from tests.snapshot_disk import copied, mounted_without_recovery, needs_recovery

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]

FREEZE = {"freeze": "true"}
SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 128 * MIB}


@contextlib.contextmanager
def in_use(
    lab: Lab, name: str, directory: Path, *, at: Driver | None = None, fs_type: str = "ext4"
) -> Iterator[tuple[Volume, Writer]]:
    """Give a volume whose file `records` is written to, and which is thawed after the body."""
    node = at or lab.nodes[0]
    capability = volume.mounted(fs_type)
    with lab.volume(name, at=node, capability=capability, size=SIZES[fs_type]) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        try:
            with writing(target / "records", directory) as writer:
                yield made, writer
            volume.until_let_through(lambda: volume.unpublish(node, made))  # it is just thawed
        finally:
            subprocess.run(["fsfreeze", "-u", target], check=False, capture_output=True)


def child_of(node: Driver) -> int:
    """Return the process that holds a filesystem of the node frozen."""
    children = processes.descendants(node.pid)
    (child,) = [each.pid for each in children if "freeze_child" in each.command]
    return child


def taken(lab: Lab, made: Volume) -> list[str]:
    """Return the names of the volume's RBD snapshots."""
    with lab.image(made) as image:
        return [each["name"] for each in image.list_snaps()]


Answer = TypeVar("Answer")


def at_last(call: Callable[[], Answer]) -> Answer:
    """Repeat a call as Kubernetes does.

    On a busy machine a snapshot takes longer than a freeze; and the watch of a plugin that was
    killed ends after 15 s.
    """
    return at_once.repeated(call, seconds=120, codes=("ABORTED", "UNAVAILABLE"))


def take(lab: Lab, made: Volume, controller: Driver | None = None) -> csi_pb2.Snapshot:
    """Ask once for a frozen snapshot."""
    return snapshots.create(controller or lab.controller, "s", made.id, parameters=FREEZE)


def count_restored(lab: Lab, made: Volume, snapshot_id: str, node: Driver) -> int:
    """Return how many records a volume has that is made from the snapshot."""
    with lab.volume(
        f"{made.id[-6:]}-restored",
        at=node,
        source=snapshot_id,
        capability=made.capability,
        size=made.size,
    ) as restored:
        volume.stage(node, restored)
        return count(restored.staging(node) / "records")


@pytest.mark.parametrize("fs_type", SIZES)
def test_all_that_was_written_is_in_a_frozen_snapshot_and_not_in_another(
    lab: Lab, tmp_path: Path, fs_type: str
) -> None:
    node, other = lab.nodes
    with in_use(lab, f"written-{fs_type}", tmp_path, fs_type=fs_type) as (made, writer):
        written_before_crash = writer.acknowledged()
        crash = snapshots.create(lab.controller, "crash", made.id)
        written = writer.acknowledged()
        frozen = at_last(lambda: take(lab, made))
        writer.require_goes_on()

        assert count_restored(lab, made, crash.snapshot_id, other) < written_before_crash
        assert count_restored(lab, made, frozen.snapshot_id, other) >= written
        with copied(lab, made, "csi-snap-s", tmp_path) as device:
            if fs_type != "xfs":  # its log is never empty, and has nothing to replay
                assert not needs_recovery(device, fs_type)
            if fs_type != "btrfs":  # the kernel takes it for the volume that is mounted
                with mounted_without_recovery(device, fs_type, tmp_path) as mount:
                    assert count(mount / "records") >= written
        written = writer.stop()
        assert count(made.target(node) / "records") >= written
        for snapshot in (crash, frozen):
            snapshots.delete(lab.controller, snapshot.snapshot_id)


def test_snapshots_at_once_of_one_volume(
    lab: Lab, installation: driver.Installation, tmp_path: Path
) -> None:
    """Two of one controller wait for each other's freeze, one of another controller for both."""
    second = installation.controller("second").start()
    with in_use(lab, "at-once", tmp_path) as (made, writer):
        written = writer.acknowledged()
        controllers = (lab.controller, lab.controller, second)
        calls = [
            functools.partial(snapshots.create, each, f"s{number}", made.id, parameters=FREEZE)
            for number, each in enumerate(controllers)
        ]
        answers, refusals = at_once.call([functools.partial(at_last, each) for each in calls])
        assert refusals == []
        writer.require_goes_on()
        for answer in answers:
            assert count_restored(lab, made, answer.snapshot_id, lab.nodes[1]) >= written
            snapshots.delete(lab.controller, answer.snapshot_id)
    second.stop()


def test_a_group_snapshot_is_frozen_as_a_whole(lab: Lab, tmp_path: Path) -> None:
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
    with (
        in_use(lab, "member-a", directories[0]) as (a, writer_a),
        in_use(lab, "member-b", directories[1], at=lab.nodes[1]) as (b, writer_b),
    ):
        written = {a.id: writer_a.acknowledged(), b.id: writer_b.acknowledged()}
        create = functools.partial(
            groups.create, lab.controller, "g", [a.id, b.id], parameters=FREEZE
        )
        group = at_last(create)
        assert create() == group
        for writer in (writer_a, writer_b):
            writer.require_goes_on()
        for member in group.snapshots:
            made = a if member.source_volume_id == a.id else b
            restored = count_restored(lab, made, member.snapshot_id, lab.nodes[1])
            assert restored >= written[made.id]
        members = [each.snapshot_id for each in group.snapshots]
        groups.delete(lab.controller, group.group_snapshot_id, members)


def test_a_volume_that_no_node_has_staged_needs_no_freeze(lab: Lab) -> None:
    for capability in (volume.mounted(), volume.raw()):
        with lab.volume("unstaged", capability=capability) as made:
            snapshot = take(lab, made)
            snapshots.delete(lab.controller, snapshot.snapshot_id)


def test_a_raw_block_volume_is_refused(lab: Lab) -> None:
    with lab.volume("raw", capability=volume.raw()) as made:
        volume.stage(lab.nodes[0], made)
        with refused("FAILED_PRECONDITION", "raw block volume", "without the parameter freeze"):
            take(lab, made)
        assert taken(lab, made) == []


def test_a_snapshot_without_a_freeze_is_not_passed_off_as_one(lab: Lab) -> None:
    with lab.volume("passed-off") as made:
        snapshot = snapshots.create(lab.controller, "s", made.id)
        with refused("ALREADY_EXISTS", "without a freeze"):
            take(lab, made)
        snapshots.delete(lab.controller, snapshot.snapshot_id)


def test_a_freeze_of_another_program_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    with in_use(lab, "others", tmp_path) as (made, writer):
        target = made.target(lab.nodes[0])
        subprocess.run(["fsfreeze", "-f", target], check=True)
        with refused("FAILED_PRECONDITION", "frozen already, by another program"):
            take(lab, made)
        assert is_frozen(target)
        subprocess.run(["fsfreeze", "-u", target], check=True)
        snapshot = at_last(lambda: take(lab, made))
        writer.require_goes_on()
        snapshots.delete(lab.controller, snapshot.snapshot_id)


def test_it_is_thawed_although_the_order_never_comes(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    with in_use(lab, "forgotten", tmp_path) as (made, writer):
        token = freeze(lab, node, made)
        assert is_frozen(made.target(node))
        writer.require_goes_on()
        wait_until_lost(lab, node, token, made)
        assert order(lab, node, "unknown", made, thaw=True).state is FreezeState.LOST


def test_a_snapshot_that_was_taken_too_late_is_removed(lab: Lab, tmp_path: Path) -> None:
    with in_use(lab, "late", tmp_path) as (made, writer):
        handle = ids.parse(made.id)
        records = store.Records(lab.ioctx)

        @contextlib.contextmanager
        def slow() -> Iterator[None]:
            with freezing.frozen(lab.ioctx, [freezing.Volume(handle, records)]):
                yield
                assert taken(lab, made) == ["s"]
                writer.require_goes_on()

        writers = records.get(handle.image_id).writers()
        with pytest.raises(errors.Busy, match="was not frozen until the snapshot was taken"):
            rbd_snapshots.take(lab.ioctx, handle.image_id, "s", writers, slow())
        assert taken(lab, made) == []


def test_the_lock_of_a_client_that_stops_meanwhile_is_not_broken(lab: Lab, tmp_path: Path) -> None:
    """By librbd's defaults, which this call uses, Ceph would refuse its writes for ever."""
    node = lab.nodes[0]
    with in_use(lab, "stopped-client", tmp_path) as (made, writer):
        handle, records = ids.parse(made.id), store.Records(lab.ioctx)
        writers = records.get(handle.image_id).writers()
        (daemon,) = labs.daemons(node).values()

        @contextlib.contextmanager
        def stopping(until: contextlib.ExitStack) -> Iterator[None]:
            with freezing.frozen(lab.ioctx, [freezing.Volume(handle, records)]):
                yield
                until.enter_context(faults.frozen(daemon))

        with contextlib.ExitStack() as until, pytest.raises(errors.Busy, match="not frozen until"):
            rbd_snapshots.take(lab.ioctx, handle.image_id, "s", writers, stopping(until))
        writer.require_goes_on()
        assert records.get(handle.image_id).writers() == lab.watchers(made)
        with lab.image(made) as image:
            assert [each["name"] for each in image.list_snaps()] == ["s"]
            image.remove_snap("s")
        snapshot = at_last(lambda: take(lab, made))
        writer.require_goes_on()
        snapshots.delete(lab.controller, snapshot.snapshot_id)


def test_a_snapshot_of_a_volume_that_is_detached_meanwhile_is_removed(lab: Lab) -> None:
    with lab.volume("detached-meanwhile") as made:
        handle = ids.parse(made.id)

        @contextlib.contextmanager
        def detaching() -> Iterator[None]:
            volumes = [freezing.Volume(handle, store.Records(lab.ioctx))]
            with freezing.frozen(lab.ioctx, volumes):
                yield
                volume.detach(lab.controller, made, node_id(lab.nodes[0]))

        with pytest.raises(errors.Busy, match="attached, staged or detached"):
            rbd_snapshots.take(lab.ioctx, handle.image_id, "s", frozenset(), detaching())
        assert taken(lab, made) == []


def _answers(calls: Sequence[Callable[[], object]]) -> list[str]:
    """Make the calls, and return the message of each that is refused, "" of another."""
    messages = []
    for call in calls:
        try:
            call()
            messages.append("")
        except grpc.RpcError as error:
            messages.append(cast(grpc.Call, error).details() or "")
    return messages


def test_calls_for_a_frozen_volume_are_refused_until_it_is_thawed(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    with in_use(lab, "calls", tmp_path) as (made, writer):
        statistics = csi_pb2.NodeGetVolumeStatsRequest(
            volume_id=made.id, volume_path=str(made.target(node))
        )
        calls = [
            lambda: volume.stage(node, made),
            lambda: volume.publish(node, made, pod="second"),
            lambda: volume.unpublish(node, made),
            lambda: volume.unstage(node, made),
            lambda: volume.expand_on_node(node, made),
            lambda: node.node.NodeGetVolumeStats(statistics),
        ]
        messages: list[str] = []

        def all_came_while_it_was_frozen() -> bool:  # on a busy machine they may take longer
            token = freeze(lab, node, made)
            messages[:] = _answers(calls)
            final = (FreezeState.HELD, FreezeState.LOST)
            commands.wait_until(
                lambda: order(lab, node, token, made, thaw=True).state in final, "it is thawed"
            )
            return order(lab, node, token, made, thaw=True).state is FreezeState.HELD

        commands.wait_until(all_came_while_it_was_frozen, "it is held", timeout=120)
        *refusals, answer = messages
        assert all(
            "freezing volume" in each and "for a snapshot has run for" in each for each in refusals
        )
        assert answer == ""
        writer.require_goes_on()
        volume.stage(node, made)
        volume.expand_on_node(node, made)


@pytest.mark.parametrize("step", ["snapshot.freeze", "snapshot.thaw", "snapshot.take"])
def test_the_controller_dies(
    lab: Lab, installation: driver.Installation, tmp_path: Path, step: str
) -> None:
    mortal = installation.controller(f"mortal-{step}").start(kill_after=step)
    with in_use(lab, "controller", tmp_path) as (made, writer):
        with refused("UNAVAILABLE"):
            take(lab, made, mortal)
        mortal.wait_for_death()
        mortal.stop()
        writer.require_goes_on()
        written = writer.acknowledged()
        mortal.start()
        snapshot = at_last(lambda: take(lab, made, mortal))
        writer.require_goes_on()
        assert count_restored(lab, made, snapshot.snapshot_id, lab.nodes[1]) >= written
        snapshots.delete(lab.controller, snapshot.snapshot_id)
    mortal.stop()


@pytest.mark.parametrize("step", ["freeze.mark", "freeze.freeze", "freeze.thaw"])
def test_the_plugin_dies(lab: Lab, victim: Driver, tmp_path: Path, step: str) -> None:
    with in_use(lab, f"plugin-{step}", tmp_path, at=victim) as (made, writer):
        victim.stop()
        victim.start(kill_after=step)
        while victim.process and victim.process.poll() is None:
            with pytest.raises(grpc.RpcError):  # the plugin may not watch yet
                take(lab, made)
        assert taken(lab, made) == []
        writer.require_goes_on()
        victim.stop()
        written = writer.acknowledged()
        victim.start()
        snapshot = at_last(lambda: take(lab, made))
        writer.require_goes_on()
        assert count_restored(lab, made, snapshot.snapshot_id, lab.nodes[1]) >= written
        snapshots.delete(lab.controller, snapshot.snapshot_id)


def _kill_with_child(node: Driver) -> None:
    """End the plugin and the process that holds a filesystem frozen, as a container's end does."""
    child = child_of(node)
    with faults.frozen(child):
        node.kill()
        faults.kill9(child)


@pytest.mark.parametrize("step", ["", "freeze.thaw_left"])
def test_the_plugin_and_its_child_die_together(
    lab: Lab, victim: Driver, tmp_path: Path, step: str
) -> None:
    with in_use(lab, "container", tmp_path, at=victim) as (made, writer):
        freeze(lab, victim, made)
        _kill_with_child(victim)
        assert is_frozen(made.target(victim))
        if step:  # and the next one, when it has thawed
            dying.in_background(victim, step)
        victim.start()
        writer.require_goes_on()
        written = writer.stop()
        assert count(made.target(victim) / "records") >= written


def test_what_was_left_frozen_is_thawed_before_it_is_unmounted(lab: Lab, victim: Driver) -> None:
    """The kernel would keep it, and its device."""
    with lab.volume("left", at=victim) as made:
        volume.stage(victim, made)
        freeze(lab, victim, made)
        _kill_with_child(victim)
        assert is_frozen(made.staging(victim))
        Unstager(this_node(victim)).unstage(ids.parse(made.id), made.staging(victim))
        assert labs.held_at(victim) == []


def test_the_child_dies(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    with in_use(lab, "child", tmp_path) as (made, writer):
        token = freeze(lab, node, made)
        faults.kill9(child_of(node))
        writer.require_goes_on()
        wait_until_lost(lab, node, token, made)
        assert "ended" in order(lab, node, token, made, thaw=True).message


def test_the_child_is_stopped(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    with in_use(lab, "stopped-child", tmp_path) as (made, writer):
        freeze(lab, node, made)
        with faults.frozen(child_of(node)):
            writer.require_goes_on()


def test_the_plugin_is_stopped(lab: Lab, victim: Driver, tmp_path: Path) -> None:
    with in_use(lab, "stopped", tmp_path, at=victim) as (made, writer):
        token = freeze(lab, victim, made)
        with faults.frozen(victim.pid):
            writer.require_goes_on()  # the child has thawed it
            with refused(
                "UNAVAILABLE", "does not answer", node_id(victim), "without the parameter"
            ):
                take(lab, made)
            assert taken(lab, made) == []
        wait_until_lost(lab, victim, token, made)
        snapshot = at_last(lambda: take(lab, made))
        writer.require_goes_on()
        snapshots.delete(lab.controller, snapshot.snapshot_id)
