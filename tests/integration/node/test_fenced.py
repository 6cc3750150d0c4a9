"""A volume is taken from a node that does not release it; that node cleans itself up."""

import os
from concurrent import futures
from typing import IO

import pytest
import rados
import rbd

from e2e import driver, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.records import State
from rbdcsi.nodes import registry
from tests import dying, faults
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import Lab
from tests.integration.node.test_crash import CAPABILITIES
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_node_whose_client_was_fenced_cleans_itself_up(lab: Lab, victim: Driver, kind: str) -> None:
    """Its Pod runs on, with a file open; the volume is used elsewhere."""
    other = lab.nodes[1]
    with lab.volume("fenced", at=victim, capability=CAPABILITIES[kind]) as made:
        volume.stage(victim, made)
        target = volume.publish(victim, made)
        file = target / "file" if target.is_dir() else target
        with file.open("wb", buffering=0) as opened:
            _write_synced(opened, b"acknowledged")
            volume.detach(lab.controller, made, labs.node_id(victim))
            assert len(lab.fences()) == 1
            moved = lab.again_attached(made, other)
            volume.stage(other, moved)
            at_other = volume.publish(other, moved)
            moved_file = at_other / "file" if at_other.is_dir() else at_other
            assert moved_file.read_bytes()[:12] == b"acknowledged"

            with pytest.raises(OSError, match=r"Input/output|Read-only|No such device"):
                _write_synced(opened, b"late")
            commands.wait_until(lab.all_fenced_are_gone, "the node reports")
            assert labs.mounts(victim) == []
            assert labs.daemons(victim) == {}
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        labs.wait_until_free(victim)
        assert moved_file.read_bytes()[:12] == b"acknowledged"
        labs.take_down(other, moved)
        volume.detach(lab.controller, moved, labs.node_id(other))
    lab.lift_fences()


def test_a_volume_without_exclusive_lock_is_taken_from_a_lost_node(
    lab: Lab, victim: Driver
) -> None:
    """StorageClasses of ceph-csi's and Rook's examples have such images."""
    other, parameters = lab.nodes[1], {"imageFeatures": "layering"}
    with lab.volume("fenced-layering", at=victim, parameters=parameters) as made:
        volume.stage(victim, made)
        with (volume.publish(victim, made) / "file").open("wb", buffering=0) as opened:
            _write_synced(opened, b"acknowledged")
        volume.detach(lab.controller, made, labs.node_id(victim))
        assert len(lab.fences()) == 1
        moved = lab.again_attached(made, other)
        volume.stage(other, moved)
        assert (volume.publish(other, moved) / "file").read_bytes()[:12] == b"acknowledged"
        commands.wait_until(lab.all_fenced_are_gone, "the node reports")
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        labs.wait_until_free(victim)
        labs.take_down(other, moved)
        volume.detach(lab.controller, moved, labs.node_id(other))
    lab.lift_fences()


def test_the_client_of_an_image_in_the_trash_is_fenced(lab: Lab, victim: Driver) -> None:
    """A person may restore the image, and the node would write to it then."""
    with lab.volume("fenced-trash", at=victim) as made:
        name = made.context["imageName"]
        volume.stage(victim, made)
        volume.publish(victim, made)
        rbd.RBD().trash_move(lab.ioctx, name)
        volume.detach(lab.controller, made, labs.node_id(victim))
        assert len(lab.fences()) == 1
        rbd.RBD().trash_restore(lab.ioctx, lab.image_id(made), name)
        commands.wait_until(lab.all_fenced_are_gone, "the node reports")
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        labs.wait_until_free(victim)
    lab.lift_fences()


@pytest.mark.parametrize("step", [None, "fence.unmount", "fence.unmap", "fence.gone"])
def test_plugin_that_was_away_cleans_up_when_it_starts_though_it_dies_on_the_way(
    lab: Lab, victim: Driver, step: str | None
) -> None:
    with lab.volume("fenced-away", at=victim) as made:
        volume.stage(victim, made)
        volume.publish(victim, made)
        victim.kill()
        volume.detach(lab.controller, made, labs.node_id(victim))
        assert len(lab.fences()) == 1
        if step:
            dying.in_background(victim, step)
        victim.start()
        commands.wait_until(lab.all_fenced_are_gone, "the node reports")
        assert labs.mounts(victim) == []
        assert labs.daemons(victim) == {}
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        labs.wait_until_free(victim)
    lab.lift_fences()


def test_volume_that_no_workload_uses_is_released_on_request(lab: Lab, victim: Driver) -> None:
    with lab.volume("asked", at=victim) as made:
        volume.stage(victim, made)
        (made.staging(victim) / "file").write_text("not synced")
        volume.detach(lab.controller, made, labs.node_id(victim))
        assert lab.fences() == []
        assert labs.held_at(victim) == []
        assert lab.watchers(made) == set()
        volume.unstage(victim, made)  # the kubelet's own
        moved = lab.again_attached(made, lab.nodes[1])
        volume.stage(lab.nodes[1], moved)
        assert (moved.staging(lab.nodes[1]) / "file").read_text() == "not synced"


def test_detach_while_a_stage_maps_ends_the_stage(
    lab: Lab, victim: Driver, cluster: Cluster
) -> None:
    with lab.volume("detached-meanwhile", at=victim) as made:
        with futures.ThreadPoolExecutor() as background, faults.frozen_mon(cluster):
            call = background.submit(volume.stage, victim, made)
            commands.wait_until(lambda: bool(labs.daemons(victim)), "the daemon starts")
            volume.detach(lab.controller, made, labs.node_id(victim))
            cluster.thaw_mon()
            with refused("FAILED_PRECONDITION", "not attached"):
                call.result()
        assert labs.held_at(victim) == []
        assert lab.mark(made) is None
        assert lab.fences() == []


def test_unstage_without_ceph_does_the_nodes_part(
    lab: Lab, victim: Driver, cluster: Cluster
) -> None:
    """The plugin reaches no monitor; the daemon's connection to the OSD goes on."""
    with lab.volume("unstage-without-ceph", at=victim) as made:
        volume.stage(victim, made)
        victim.stop()
        with faults.frozen_mon(cluster):
            victim.start()
            with refused("UNAVAILABLE", "no monitor"):
                volume.unstage(victim, made)
            assert labs.mounts(victim) == []
            assert labs.daemons(victim) == {}
        # for some seconds calls fail by the attempt that failed
        volume.until_let_through(lambda: volume.unstage(victim, made))
        assert labs.held_at(victim) == []
        assert lab.record(made, victim).state is State.RELEASED


def test_unstage_of_a_cluster_that_is_not_configured_does_the_nodes_part(
    lab: Lab, victim: Driver
) -> None:
    config = victim.config
    text = config.read_text()
    with lab.volume("unconfigured", at=victim) as made:
        volume.stage(victim, made)
        victim.stop()
        config.write_text(text.replace("clusterID: local", "clusterID: elsewhere"))
        try:
            victim.start()
            volume.unstage(victim, made)
            assert labs.held_at(victim) == []
        finally:
            victim.stop()
            config.write_text(text)
            victim.start()
        commands.wait_until(
            lambda: lab.record(made, victim).state is State.RELEASED, "the record follows"
        )


def test_second_machine_with_the_same_node_id_stages_nothing_until_the_first_is_gone(
    lab: Lab, installation: driver.Installation, ioctx: rados.Ioctx
) -> None:
    first = installation.node("node-1").start()
    wait_until_registered(ioctx, first)
    twin = installation.node("twin", "--node-id", "node-1").start()  # the last flag counts
    owner = registry.Nodes(ioctx).get("node-1").machine_id
    with lab.volume("twins", at=first) as made:
        volume.stage(first, made)
        commands.wait_until(lambda: not _is_ready(twin), "the twin is not ready")
        with refused("FAILED_PRECONDITION", "node-1", "another machine"):
            volume.stage(twin, made)
        assert labs.held_at(twin) == []
        record = registry.Nodes(ioctx).get("node-1")
        assert record.machine_id == owner
        assert record.refused
        assert record.refused.machine_id != owner
        assert len(lab.record(made, first).clients) == 1

        first.kill()
        commands.wait_until(lambda: _is_ready(twin), "the twin takes the id over", timeout=90)
        with refused("FAILED_PRECONDITION", "another machine", "still has it open"):
            volume.stage(twin, made)  # the first one's daemon lives
        for pid in labs.daemons(first).values():
            faults.kill9(pid)
        commands.wait_until(lambda: not lab.watchers(made), "Ceph forgets the watch")
        volume.stage(twin, made)
        assert {each.address for each in lab.record(made, first).clients} == lab.watchers(made)
        labs.take_down(twin, made)
        twin.stop()
        first.start()
        commands.wait_until(lab.all_fenced_are_gone, "the first has cleaned up")
    first.stop()
    lab.lift_fences()


def _write_synced(opened: IO[bytes], data: bytes) -> None:
    opened.write(data.ljust(4096))
    os.fsync(opened.fileno())


def _is_ready(node: Driver) -> bool:
    return node.identity.Probe(csi_pb2.ProbeRequest()).ready.value
