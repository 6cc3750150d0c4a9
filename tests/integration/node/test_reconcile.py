"""A node plugin makes its devices and the records in Ceph agree; what is in use stays."""

import contextlib
import shutil

import pytest

from e2e import volume
from e2e.clusters import commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi import errors
from rbdcsi.attachments.records import State
from rbdcsi.model import ids
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.integration.node.reconciling import reconciler
from tests.integration.node.test_crash import CAPABILITIES, dying_after

pytestmark = pytest.mark.usefixtures("nothing_left")


def busy(handle: ids.VolumeHandle) -> contextlib.AbstractContextManager[None]:
    raise errors.Busy(f"a call works on {handle}")


@pytest.mark.parametrize("step", ["stage.note", "stage.map"])
def test_mapping_that_was_never_recorded_is_removed_at_the_next_start(
    lab: Lab, victim: Driver, step: str
) -> None:
    with lab.volume("leftover", at=victim) as made:
        dying_after(step, victim, lambda node: volume.stage(node, made))
        labs.wait_until_free(victim)
        assert lab.watchers(made) == set()
        volume.detach(lab.controller, made, labs.node_id(victim))


@pytest.mark.parametrize("step", ["stage.record", "stage.formatted"])
def test_stage_that_the_kubelet_forgot_is_undone_after_two_rounds(
    lab: Lab, victim: Driver, step: str
) -> None:
    with lab.volume("forgotten", at=victim) as made:
        dying_after(step, victim, lambda node: volume.stage(node, made))
        rounds = reconciler(victim)
        before = labs.held_at(victim)
        rounds.run()
        assert labs.held_at(victim) == before
        rounds.run()
        assert labs.held_at(victim) == []
        assert lab.watchers(made) == set()
        assert lab.record(made, victim).state is State.RELEASED


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_what_is_staged_stays(lab: Lab, victim: Driver, kind: str) -> None:
    with lab.volume("stays", at=victim, capability=CAPABILITIES[kind]) as made:
        volume.stage(victim, made)
        before = labs.held_at(victim), lab.record(made, victim)
        rounds = reconciler(victim)
        rounds.run()
        rounds.run()
        assert (labs.held_at(victim), lab.record(made, victim)) == before


def test_what_a_call_works_on_stays(lab: Lab, victim: Driver) -> None:
    with lab.volume("busy", at=victim) as made:
        dying_after("stage.record", victim, lambda node: volume.stage(node, made))
        before = labs.held_at(victim)
        rounds = reconciler(victim, busy)
        rounds.run()
        rounds.run()
        assert labs.held_at(victim) == before


@pytest.mark.parametrize("step", ["stage.note", "stage.map", "stage.record", "stage.formatting"])
def test_kill_in_stage_then_detach_and_delete_leaves_nothing(
    lab: Lab, victim: Driver, step: str
) -> None:
    made = volume.create(lab.controller, "cut-off")
    volume.attach(lab.controller, made, labs.node_id(victim))
    dying_after(step, victim, lambda node: volume.stage(node, made))
    volume.detach(lab.controller, made, labs.node_id(victim))
    volume.delete(lab.controller, made)
    rounds = reconciler(victim)
    rounds.run()
    labs.wait_until_free(victim)
    lab.lift_fences()


def test_client_without_a_device_is_released(lab: Lab, victim: Driver) -> None:
    """As after a reboot: mounts, daemon and state are gone, the record is not."""
    with lab.volume("rebooted", at=victim) as made:
        volume.stage(victim, made)
        victim.stop()
        lose_everything(victim, made)
        commands.wait_until(lambda: not lab.watchers(made), "Ceph forgets the watch")
        victim.start()
        commands.wait_until(
            lambda: lab.record(made, victim).state is State.RELEASED, "it is released"
        )
        volume.detach(lab.controller, made, labs.node_id(victim))


def test_client_of_an_earlier_boot_is_released_and_replaced(lab: Lab, victim: Driver) -> None:
    with lab.volume("earlier-boot", at=victim) as made:
        volume.stage(victim, made)
        volume.unstage(victim, made)
        client = lab.change_client(made, victim, "10.9.9.9:0/1", boot_id="an earlier one")
        volume.stage(victim, made)
        assert client not in lab.record(made, victim).clients
        assert {each.address for each in lab.record(made, victim).clients} == lab.watchers(made)


def test_state_directory_that_is_lost_costs_a_stage_and_no_data(lab: Lab, victim: Driver) -> None:
    with lab.volume("lost-state", at=victim) as made:
        volume.stage(victim, made)
        (made.staging(victim) / "file").write_text("kept")
        victim.stop()
        state = victim.directory / "state"
        for file in [*state.glob("*/*/image.json"), *state.glob("notes/*")]:
            file.unlink()
        labs.start_reconciled(victim)
        volume.unstage(victim, made)
        assert labs.held_at(victim) == []
        assert lab.record(made, victim).state is State.RELEASED
        volume.stage(victim, made)
        assert (made.staging(victim) / "file").read_text() == "kept"


def test_device_of_an_older_driver_is_taken_over(lab: Lab, victim: Driver) -> None:
    """Its record lacks the machine, and it wrote no note."""
    with lab.volume("upgraded", at=victim) as made:
        volume.stage(victim, made)
        victim.stop()
        shutil.rmtree(victim.directory / "state" / "notes")
        address = lab.record(made, victim).client
        assert address
        lab.change_client(made, victim, address)
        victim.start()
        commands.wait_until(
            lambda: lab.record(made, victim).clients[0].machine_id != "", "the facts are recorded"
        )
        assert [each.address for each in lab.record(made, victim).clients] == [address]
        volume.stage(victim, made)
        target = volume.publish(victim, made)
        (target / "file").write_text("works")
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        assert labs.held_at(victim) == []
        assert lab.record(made, victim).state is State.RELEASED


def test_client_of_an_older_driver_that_is_nowhere_is_fenced_and_released(
    lab: Lab, victim: Driver
) -> None:
    with lab.volume("older-client", at=victim) as made:
        lab.change_client(made, victim, "10.9.9.9:0/1")
        reconciler(victim).run()
        assert lab.record(made, victim).clients == ()
        assert [fence.address for fence in lab.fences()] == ["10.9.9.9:0/1"]
    lab.lift_fences()


def lose_everything(node: Driver, made: Volume) -> None:
    """Take away all that a reboot takes away, at once."""
    # Once the mount of its file has gone, nothing shows whose a loop device is.
    loop_devices = list(labs.loop_devices(node))
    for pid in labs.daemons(node).values():
        faults.kill9(pid)
    for entry in reversed(labs.mounts(node)):
        commands.run(["umount", "--lazy", str(entry.target)])
    for device in loop_devices:
        commands.run(["losetup", "--detach", str(device)])
    shutil.rmtree(node.directory / "state")
    made.staging(node)
