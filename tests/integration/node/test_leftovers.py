"""A node plugin died in NodeStage and no NodeUnstage comes: what it mapped goes, nothing else."""

import contextlib
from pathlib import Path

import pytest

from e2e import volume
from e2e.driver import Driver
from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.config import clusters_file
from rbdcsi.host.machine import this_machine
from rbdcsi.host.mappers import select
from rbdcsi.model import ids
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.orphans import Hold, Orphans
from rbdcsi.staging.this_node import ThisNode
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.integration.node.test_crash import CAPABILITIES, dying_after

pytestmark = pytest.mark.usefixtures("nothing_left")


def free(_handle: ids.VolumeHandle) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def busy(handle: ids.VolumeHandle) -> contextlib.AbstractContextManager[None]:
    raise errors.Busy(f"a call works on {handle}")


def looked_twice(node: Driver, hold: Hold = free) -> None:
    """Do what the node plugin does in two minutes, and see that one look alone does nothing."""
    configured = clusters_file.load(Path(node.flags[node.flags.index("--config") + 1]))
    pooled = connections.Connections(configured, timeout=10)
    state = node.directory / "state"
    devices = Devices(select.every(state), ("fuse",), pooled)
    machine = this_machine(node.socket.parent)
    this_node = ThisNode(labs.node_id(node), machine, node.kubelet, devices, pooled, state)
    orphans = Orphans(this_node, hold)
    before = labs.held_at(node)
    orphans.unmap()
    assert labs.held_at(node) == before
    orphans.unmap()


@pytest.mark.parametrize("step", ["stage.map", "stage.record", "stage.formatted"])
def test_what_a_stage_left_mapped_is_unmapped_and_can_be_detached(
    lab: Lab, victim: Driver, step: str
) -> None:
    with lab.volume("leftover", at=victim) as made:
        dying_after(step, victim, lambda node: volume.stage(node, made))
        looked_twice(victim)
        assert labs.held_at(victim) == []
        assert lab.watchers(made) == set()
        volume.detach(lab.controller, made, labs.node_id(victim))


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_what_is_staged_stays(lab: Lab, victim: Driver, kind: str) -> None:
    with lab.volume("leftover-staged", at=victim, capability=CAPABILITIES[kind]) as made:
        volume.stage(victim, made)
        held = labs.held_at(victim)
        looked_twice(victim)
        assert labs.held_at(victim) == held


def test_what_a_call_works_on_stays(lab: Lab, victim: Driver) -> None:
    with lab.volume("leftover-busy", at=victim) as made:
        dying_after("stage.map", victim, lambda node: volume.stage(node, made))
        held = labs.held_at(victim)
        looked_twice(victim, busy)
        assert labs.held_at(victim) == held


def test_an_image_that_is_not_attached_here_stays(lab: Lab, victim: Driver) -> None:
    with lab.volume("leftover-foreign", at=victim) as made:
        dying_after("stage.map", victim, lambda node: volume.stage(node, made))
        lab.forget(made)
        held = labs.held_at(victim)
        looked_twice(victim)
        assert labs.held_at(victim) == held
