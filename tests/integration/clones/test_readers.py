"""A copy that many nodes read: the first one replays the journal, alone, before any reads."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import driver, volume
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.attachments.records import State
from rbdcsi.model.format_mark import Mark, Phase
from tests.integration.node import lab as labs
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import MIB, Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

FILESYSTEMS = ("ext4", "xfs", "btrfs")
SIZE = 400 * MIB
READERS = "MULTI_NODE_READER_ONLY"


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("fs_type", FILESYSTEMS)
def test_copy_of_a_mounted_volume_is_read_on_two_nodes(lab: Lab, fs_type: str) -> None:
    first, second = lab.nodes
    with lab.volume("source", capability=volume.mounted(fs_type), size=SIZE) as source:
        volume.stage(first, source)
        _write(source.staging(first) / "file", "in the journal")
        readers = volume.mounted(fs_type, READERS)
        with lab.volume("copy", capability=readers, size=SIZE, source=source.id) as copy:
            assert lab.record(copy, first).settles
            with refused("ABORTED", "whose journal node 'node-a' replays", "try again"):
                lab.again_attached(copy, second)
            volume.stage(first, copy)
            held = lab.record(copy, first)
            assert (held.settles, held.readonly, held.state) == (False, True, State.STAGED)
            assert lab.mark(copy) == Mark(Phase.FORMATTED, fs_type)
            before = lab.checksum(copy)
            there = lab.again_attached(copy, second)
            assert not lab.record(copy, second).settles
            volume.stage(second, there)
            for node in (first, second):
                assert labs.mount_at(copy.staging(node)).readonly
                assert (copy.staging(node) / "file").read_text() == "in the journal"
                with pytest.raises(OSError, match="Read-only"):
                    (copy.staging(node) / "new").write_text("")
            volume.stage(first, copy)
            assert lab.checksum(copy) == before


def test_copy_that_is_not_staged_gives_way_when_it_is_detached(lab: Lab) -> None:
    first, second = lab.nodes
    with lab.volume("source") as source:
        volume.stage(first, source)
        readers = volume.mounted("ext4", READERS)
        with lab.volume("copy", capability=readers, source=source.id) as copy:
            volume.detach(lab.controller, copy, labs.node_id(first))
            there = lab.again_attached(copy, second)
            volume.stage(second, there)
            again = lab.again_attached(copy, first)
            volume.stage(first, again)


def test_copy_that_was_mounted_for_writing_needs_no_settling(lab: Lab) -> None:
    first = lab.nodes[0]
    with lab.volume("source") as source:
        volume.stage(first, source)
        with lab.volume("copy", source=source.id) as copy:
            volume.stage(first, copy)
            volume.unstage(first, copy)
            volume.detach(lab.controller, copy, labs.node_id(first))
            reading = lab.again_attached(copy, first, readonly=True)
            assert not lab.record(copy, first).settles
            volume.stage(first, reading)


@pytest.fixture(scope="module")
def registered(installation: driver.Installation, lab: Lab) -> Driver:
    """Give a registered node that is not running."""
    node = installation.node("node-m").start()
    wait_until_registered(lab.ioctx, node)
    node.stop()
    return node


@pytest.fixture
def mortal(registered: Driver, nothing_left: None) -> Iterator[Driver]:
    """Give a node that the test starts."""
    assert nothing_left is None  # it looks when the process is gone
    yield registered
    registered.stop()


@pytest.mark.parametrize(
    "step",
    [
        "stage.map",
        "stage.record",
        "stage.uuid",
        "stage.mount",
        "stage.copied",
        "settle.mount",
        "unstage.unmap",
        "settle.unstage",
        "settle.record",
    ],
)
def test_node_killed_after_a_step_carries_on(lab: Lab, mortal: Driver, step: str) -> None:
    first = lab.nodes[0]
    readers = volume.mounted("btrfs", READERS)
    with lab.volume("source", capability=volume.mounted("btrfs"), size=SIZE) as source:
        volume.stage(first, source)
        _write(source.staging(first) / "file", "in the journal")
        mortal.start(kill_after=step)
        with lab.volume("copy", capability=readers, size=SIZE, source=source.id, at=mortal) as copy:
            with refused("UNAVAILABLE"):
                volume.stage(mortal, copy)
            mortal.wait_for_death()
            mortal.stop()
            mortal.start()
            volume.until_let_through(lambda: volume.stage(mortal, copy))
            _reads(lab, mortal, copy)


def _reads(lab: Lab, node: Driver, copy: Volume) -> None:
    held = lab.record(copy, node)
    assert (held.settles, held.state) == (False, State.STAGED)
    assert labs.mount_at(copy.staging(node)).readonly
    assert (copy.staging(node) / "file").read_text() == "in the journal"
