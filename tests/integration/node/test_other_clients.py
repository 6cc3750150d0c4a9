"""A volume with one writer is staged only if no other client can write to it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures

import pytest
import rados
import rbd

from e2e import driver, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.attachments import fences
from rbdcsi.ceph import mirroring
from rbdcsi.host.mappers import storage_daemon
from rbdcsi.nodes import registry
from rbdcsi.runtime import clock
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import Lab
from tests.integration.node.slow import SlowNode
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def tolerant(installation: driver.Installation, ioctx: rados.Ioctx) -> Iterator[Driver]:
    """Give a node that lets clients of this machine watch."""
    node = installation.node("node-t", "--allow-foreign-watchers", "0.0.0.0/0")
    node.start()
    wait_until_registered(ioctx, node)
    yield node
    node.stop()


# A client of its own that has the image open for writing, and watches an object if it has a name.
_PROGRAM = """
import sys
import rados, rbd
conf, user, keyring, pool, image_id, watched = sys.argv[1:]
with (
    rados.Rados(name=f"client.{user}", conffile=conf, conf={"keyring": keyring}) as client,
    client.open_ioctx(pool) as ioctx,
    rbd.Image(ioctx, image_id=image_id),
):
    watch = watched and ioctx.watch(watched, lambda *_: "")
    print("open", flush=True)
    sys.stdin.read()
    if watch:
        watch.close()
"""


@contextlib.contextmanager
def opened_by(
    lab: Lab, made: Volume, cluster: Cluster, pool: str, watched: str = ""
) -> Iterator[None]:
    """Let another client have the image open for writing during the body."""
    conf, keyring = str(cluster.conf), str(cluster.keyring)
    arguments = (conf, cluster.user, keyring, pool, lab.image_id(made), watched)
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "open\n"
        try:
            yield
        finally:
            client.stdin.close()


def test_watcher_that_no_attachment_accounts_for_is_named_and_refused(
    lab: Lab, cluster: Cluster, pool: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("watched", at=node) as made:
        with opened_by(lab, made, cluster, pool):
            (watcher,) = lab.watchers(made)
            words = ("FAILED_PRECONDITION", watcher, "no attachment accounts", "rbd status")
            with refused(*words):
                volume.stage(node, made)
            assert labs.held_at(node) == []
        volume.stage(node, made)
        with opened_by(lab, made, cluster, pool):
            volume.stage(node, made)  # a repeat takes nothing away from a workload


def test_watcher_that_the_operator_allows_does_not_matter(
    lab: Lab, cluster: Cluster, pool: str, tolerant: Driver
) -> None:
    with (
        lab.volume("allowed", at=tolerant) as made,
        opened_by(lab, made, cluster, pool),
    ):
        volume.stage(tolerant, made)
        assert lab.record(made, tolerant).client in lab.watchers(made)
        volume.unstage(tolerant, made)


def test_shared_block_volume_may_be_watched(lab: Lab, cluster: Cluster, pool: str) -> None:
    node = lab.nodes[0]
    capability = volume.raw("MULTI_NODE_MULTI_WRITER")
    with (
        lab.volume("shared", at=node, capability=capability) as made,
        opened_by(lab, made, cluster, pool),
    ):
        volume.stage(node, made)


def test_client_that_watches_the_pool_as_rbd_mirror_does_is_one(
    lab: Lab, cluster: Cluster, pool: str
) -> None:
    node = lab.nodes[0]
    lab.ioctx.write_full(mirroring.OBJECT, b"")
    try:
        with lab.volume("mirrored", at=node) as made:
            with opened_by(lab, made, cluster, pool, mirroring.OBJECT):
                volume.stage(node, made)
                volume.unstage(node, made)
            with (
                opened_by(lab, made, cluster, pool),
                refused("FAILED_PRECONDITION", "no attachment accounts"),
            ):
                volume.stage(node, made)
    finally:
        lab.ioctx.remove_object(mirroring.OBJECT)


def test_client_of_another_machine_that_lives_is_named_and_refused(
    lab: Lab, cluster: Cluster, pool: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("two-machines", at=node) as made:
        with opened_by(lab, made, cluster, pool):
            (watcher,) = lab.watchers(made)
            lab.change_client(made, node, watcher, machine_id="another")
            with refused("FAILED_PRECONDITION", watcher, "another machine", "one node id"):
                volume.stage(node, made)
            assert labs.held_at(node) == []
            assert lab.record(made, node).clients[0].address == watcher
        commands.wait_until(lambda: not lab.watchers(made), "it has closed the image")
        volume.stage(node, made)  # now it is fenced
        assert [each.address for each in lab.fences()] == [watcher]
        assert {each.address for each in lab.record(made, node).clients} == lab.watchers(made)
    lab.lift_fences()


def test_client_of_another_machine_that_comes_during_the_call_is_named_and_refused(
    lab: Lab, slow: SlowNode
) -> None:
    node, other = slow.node, "10.9.9.9:0/1"
    with lab.volume("two-at-once", at=node) as made:
        with slow.waiting(storage_daemon.PROGRAM), futures.ThreadPoolExecutor() as callers:
            call = callers.submit(volume.stage, node, made)
            commands.wait_until(lambda: bool(slow.pids(storage_daemon.PROGRAM)), "it maps")
            lab.change_client(made, node, other, machine_id="another")
            slow.let_go(storage_daemon.PROGRAM)
            with refused("FAILED_PRECONDITION", other, "another machine", "--node-id"):
                call.result()
        assert labs.held_at(node) == []
        assert [each.address for each in lab.record(made, node).clients] == [other]
        volume.stage(node, made)  # now it is fenced
        assert [each.address for each in lab.fences()] == [other]
    lab.lift_fences()


def test_a_fence_that_was_removed_by_hand_lets_nothing_pass_and_is_made_again(
    lab: Lab, cluster: Cluster, pool: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("fence-removed", at=node) as made, opened_by(lab, made, cluster, pool):
        lab.controller.stop()
        try:
            (address,) = lab.watchers(made)
            since, until = clock.now(), clock.after(24 * 3600.0)
            noted = fences.Fence(address, made.id, "node-x", "m", "b", since, until, epoch=1)
            registry.Nodes(lab.ioctx).swap(
                None, registry.NodeRecord("node-x", (), "b", "0", since, machine_id="m")
            )
            fences.Fences(lab.ioctx).put(noted)
            with refused("FAILED_PRECONDITION", address, "no attachment accounts for"):
                volume.stage(node, made)
        finally:
            lab.controller.start()
        listed = ("osd", "blocklist", "ls")
        commands.wait_until(lambda: address in cluster.ceph(*listed), "it is listed again")
        volume.stage(node, made)
        registry.Nodes(lab.ioctx).remove("node-x", registry.Nodes(lab.ioctx).text("node-x") or "")
    lab.lift_fences()


def test_policy_that_forbids_fences_holds_for_nodes_too(
    lab: Lab, installation: driver.Installation
) -> None:
    node = installation.node("node-n", "--fence=never").start()
    wait_until_registered(lab.ioctx, node)
    address = "10.9.9.9:0/1"
    with lab.volume("never-fenced", at=node) as made:
        for machine_id in ("another", ""):
            lab.change_client(made, node, address, machine_id=machine_id)
            words = ("FAILED_PRECONDITION", address, "--fence=never", "rbdcsi attachments release")
            with refused(*words):
                volume.stage(node, made)
            volume.unstage(node, made)
            assert [each.address for each in lab.record(made, node).clients] == [address]
        assert lab.fences() == []
        assert labs.held_at(node) == []
    node.stop()
    lab.lift_fences()


def test_second_staging_path_is_refused_and_its_unstage_harms_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    for capability in (volume.mounted(), volume.raw()):
        with lab.volume("two-paths", at=node, capability=capability) as made:
            volume.stage(node, made)
            before = labs.held_at(node)
            second = node.kubelet / "staging" / "second"
            second.mkdir()
            with refused("FAILED_PRECONDITION", f"staged at {made.staging(node)}", str(second)):
                labs.stage_with(node, made, staging=second)
            labs.unstage_at(node, made, second)
            assert labs.held_at(node) == before
            second.rmdir()
            volume.unstage(node, made)
            assert labs.held_at(node) == []


def test_image_that_took_the_name_is_not_used(lab: Lab, cluster: Cluster) -> None:
    """Another image gets the name between the read of the record and the mapping."""
    node, bindings = lab.nodes[0], rbd.RBD()
    with lab.volume("renamed", at=node) as made, futures.ThreadPoolExecutor() as background:
        with lab.image(made, readonly=True) as image:
            name = image.get_name()
        with faults.frozen_mon(cluster):  # the daemon's new client waits, open ones go on
            call = background.submit(volume.stage, node, made)
            commands.wait_until(lambda: bool(labs.daemons(node)), "the daemon starts")
            bindings.rename(lab.ioctx, name, "aside")
            bindings.create(lab.ioctx, name, labs.MIB)
        with refused("ABORTED", "another image has taken its name"):
            call.result()
        assert labs.held_at(node) == []
        assert lab.mark(made) is None
        bindings.remove(lab.ioctx, name)
        bindings.rename(lab.ioctx, "aside", name)
        volume.stage(node, made)
