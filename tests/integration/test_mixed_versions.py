"""During an upgrade, drivers of this and the previous version work side by side."""

import dataclasses
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import rados

import rbdcsi
from e2e import clusters, snapshots, volume
from e2e.clusters import commands
from e2e.driver import Driver, Installation
from e2e.pool import image_id
from rbdcsi.attachments import image_rules, store
from rbdcsi.attachments.records import Rollback, State, VolumeRecord
from tests.integration.node import lab as labs
from tests.integration.node.conftest import ioctx as ioctx
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]

# The last commit whose drivers recorded neither machines nor more than one client.
PREVIOUS = "195042b2"
# The last commit whose node plugins froze nothing.
BEFORE_FREEZE = "ba1e1d1c"
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """Give the command that is the driver of the previous version."""
    return _program(PREVIOUS, tmp_path_factory.mktemp("previous"))


def _program(commit: str, directory: Path) -> Sequence[str]:
    """Return the command that is the driver of a commit, from the repository's history.

    The compiled interface is this tree's, because the interface has not changed.
    """
    try:
        archive = _git("archive", "--format=zip", commit, "rbdcsi")
    except subprocess.CalledProcessError:
        if _git("rev-parse", "--is-shallow-repository").strip() == b"true":
            pytest.skip(f"this clone has no history back to {commit}: `git fetch --unshallow`")
        raise
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(directory)
    for file in (Path(rbdcsi.__file__).parent / "api").glob("*.py"):
        (directory / "rbdcsi/api" / file.name).write_bytes(file.read_bytes())
    # -P: otherwise Python would find this tree in the working directory first.
    return "env", f"PYTHONPATH={directory}", sys.executable, "-P", "-m", "rbdcsi"


def _git(*words: str) -> bytes:
    """Run git for this repository, which may belong to another user, as in CI's container."""
    git = ("git", "-c", f"safe.directory={_ROOT}", "-C", str(_ROOT))
    return subprocess.run([*git, *words], check=True, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def older(installation: Installation, previous: Sequence[str]) -> Installation:
    """Give the same installation with drivers of the previous version."""
    return dataclasses.replace(installation, program=previous)


@pytest.fixture(scope="module")
def lab(
    controller: Driver, nodes: tuple[Driver, Driver], ioctx: rados.Ioctx, cluster: clusters.Cluster
) -> Lab:
    """Give a controller and two nodes of this version."""
    for node in nodes:
        wait_until_registered(ioctx, node)
    return Lab(controller, nodes, ioctx, cluster)


@pytest.fixture(scope="module")
def older_node(older: Installation, ioctx: rados.Ioctx) -> Driver:
    """Give a node of the previous version."""
    node = older.node("node-old").start()
    wait_until_registered(ioctx, node)
    return node


def test_a_node_of_the_previous_version_serves_a_volume_of_this_controller(
    lab: Lab, older_node: Driver
) -> None:
    with lab.volume("older-node", at=older_node) as made:
        volume.stage(older_node, made)
        target = volume.publish(older_node, made)
        (target / "file").write_text("kept")
        (client,) = lab.record(made, older_node).clients
        assert {client.address} == lab.watchers(made)
        assert client.machine_id == ""
        volume.unpublish(older_node, made)
        volume.unstage(older_node, made)
        assert lab.record(made, older_node).state is State.RELEASED
        assert lab.record(made, older_node).clients == ()
        volume.detach(lab.controller, made, "node-old")
        moved = lab.again_attached(made, lab.nodes[0])
        volume.stage(lab.nodes[0], moved)
        assert (volume.publish(lab.nodes[0], moved) / "file").read_text() == "kept"


def test_a_node_of_before_the_freeze_takes_no_frozen_snapshot(
    lab: Lab, installation: Installation, tmp_path: Path
) -> None:
    program = _program(BEFORE_FREEZE, tmp_path)
    node = dataclasses.replace(installation, program=program).node("node-early").start()
    wait_until_registered(lab.ioctx, node)
    with lab.volume("before-freeze", at=node) as made:
        volume.stage(node, made)
        with refused("FAILED_PRECONDITION", "older driver that cannot freeze", "node-early"):
            snapshots.create(lab.controller, "s", made.id, parameters={"freeze": "true"})
        with lab.image(made) as image:
            assert list(image.list_snaps()) == []
        labs.take_down(node, made)
    node.stop()


def test_a_node_of_the_previous_version_that_does_not_release_is_fenced(
    lab: Lab, older_node: Driver
) -> None:
    with lab.volume("older-fenced", at=older_node) as made:
        volume.stage(older_node, made)
        volume.publish(older_node, made)
        volume.detach(lab.controller, made, "node-old")
        moved = lab.again_attached(made, lab.nodes[0])
        volume.stage(lab.nodes[0], moved)
        labs.take_down(older_node, made)
        _lift_the_fence(lab, older_node)


def _lift_the_fence(lab: Lab, older_node: Driver) -> None:
    """Have the fence lifted: the older plugin does not report, its successor does."""
    older_node.stop()
    successor = dataclasses.replace(older_node, program=lab.nodes[0].program, process=None)
    successor.start()
    try:
        commands.wait_until(lambda: not lab.fences(), "the fence is lifted", timeout=120)
    finally:
        successor.stop()
        older_node.start()


def test_a_controller_of_the_previous_version_moves_a_volume_of_this_node(
    older: Installation, lab: Lab
) -> None:
    controller = older.controller("controller-old").start()
    node, other = lab.nodes
    with lab.volume("older-controller") as made:
        volume.stage(node, made)
        with refused("FAILED_PRECONDITION", "still staged"):
            volume.detach(controller, made, labs.node_id(node))
        volume.unstage(node, made)
        volume.detach(controller, made, labs.node_id(node))
        volume.attach(controller, made, labs.node_id(other))
        volume.stage(other, made)
        volume.unstage(other, made)
        volume.detach(controller, made, labs.node_id(other))
    controller.stop()


def test_a_controller_of_the_previous_version_leaves_a_rollback_alone(
    older: Installation, lab: Lab
) -> None:
    controller = older.controller("controller-before-rollbacks").start()
    made = volume.create(lab.controller, "rolled-back", size=16 * volume.MIB)
    records = store.Records(lab.ioctx)
    rollback = Rollback("127.0.0.1:0/4242", 4, "s", made.size, "then")
    records.change(
        image_id(made), lambda record: image_rules.begin_rollback(record, made.id, rollback, ())
    )
    newer = "has version 2, this driver knows 1: run the newer driver"
    with refused("INTERNAL", newer):
        volume.attach(controller, made, labs.node_id(lab.nodes[0]))
    with refused("INTERNAL", newer):
        volume.delete(controller, made)
    records.change(image_id(made), lambda record: image_rules.end_rollback(record, rollback.client))
    volume.attach(controller, made, labs.node_id(lab.nodes[0]))
    volume.detach(controller, made, labs.node_id(lab.nodes[0]))
    volume.delete(controller, made)
    # One that is stopped now leaves the data to the next look at every record, an hour later.
    commands.wait_until(
        lambda: (
            not lab.trashed() and store.Records(lab.ioctx).get(image_id(made)) == VolumeRecord()
        ),
        "its purger has removed the data",
    )
    controller.stop()


@pytest.fixture
def upgraded(older: Installation, ioctx: rados.Ioctx) -> Iterator[Driver]:
    """Give a node of the previous version, which the test upgrades."""
    node = older.node("node-upgraded").start()
    wait_until_registered(ioctx, node)
    yield node
    node.stop()


def test_a_volume_staged_by_the_previous_version_gets_its_facts_from_this_one(
    lab: Lab, upgraded: Driver
) -> None:
    node = upgraded
    with lab.volume("upgraded", at=node) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        (target / "file").write_text("kept")
        (before,) = lab.record(made, node).clients
        node.stop()
        node.program = lab.nodes[0].program
        node.start()
        commands.wait_until(
            lambda: bool(lab.record(made, node).clients[0].machine_id), "the client has its machine"
        )
        (after,) = lab.record(made, node).clients
        assert (after.address, after.mapper) == (before.address, "fuse")
        assert (target / "file").read_text() == "kept"
        volume.stage(node, made)
        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert lab.record(made, node).clients == ()
