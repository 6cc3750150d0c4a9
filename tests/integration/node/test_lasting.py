"""mkfs and e2fsck may take longer than a call: they go on, and a repeated call takes the result."""

import os
from collections.abc import Callable

import grpc
import pytest

from e2e import processes, volume
from e2e.clusters import commands
from e2e.driver import Driver
from rbdcsi.host import command
from rbdcsi.model.format_mark import Mark, Phase
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.integration.node.slow import SlowNode
from tests.integration.node.test_crash import dying_after
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

_FORMATTING, _FORMATTED = Mark(Phase.FORMATTING, "ext4"), Mark(Phase.FORMATTED, "ext4")
TOOLS = ("mkfs.ext4", "e2fsck")


@pytest.fixture(autouse=True)
def fresh(slow: SlowNode) -> None:
    """Forget the runs of earlier tests."""
    for file in slow.directory.glob("*.started"):
        file.unlink()


def _cut_off(slow: SlowNode, made: volume.Volume, tool: str) -> None:
    """Stage with a deadline that ends while the program waits; return when the call has ended."""
    with pytest.raises(grpc.RpcError):
        volume.stage(slow.node, made, timeout=4)
    assert len(slow.pids(tool)) == 1
    commands.wait_until(lambda: "still lives" in _refusal(slow.node, made), "the call has ended")


def _refusal(node: Driver, made: volume.Volume) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        volume.stage(node, made)
    return str(caught.value)


@pytest.mark.parametrize("tool", TOOLS)
def test_child_outlives_the_call_and_the_retry_takes_its_result(
    lab: Lab, slow: SlowNode, tool: str
) -> None:
    node = slow.node
    with lab.volume("lasting", at=node) as made:
        if tool == "e2fsck":
            volume.stage(node, made)
            volume.unstage(node, made)
        with slow.waiting(tool):
            _cut_off(slow, made, tool)
            device = next(iter(labs.loop_devices(node)))
            (pid,) = slow.pids(tool)
            words = (tool, str(device), f"child {pid}", "since 20")
            for _ in range(2):
                with refused("ABORTED", *words):
                    volume.stage(node, made)
            with refused("ABORTED", *words):
                volume.unstage(node, made)
            assert lab.mark(made) == (_FORMATTING if tool == "mkfs.ext4" else _FORMATTED)
            slow.let_go(tool)
        volume.stage(node, made)
        assert len(slow.started(tool)) == 1
        assert lab.mark(made) == _FORMATTED
        (made.staging(node) / "file").write_text("data")


@pytest.mark.parametrize(
    ("tool", "exit_code", "answer"),
    [("mkfs.ext4", "1", "INTERNAL"), ("e2fsck", "4", "FAILED_PRECONDITION")],
)
def test_failure_of_a_child_that_outlived_its_call_is_the_answer_of_the_retry(
    lab: Lab, slow: SlowNode, tool: str, exit_code: str, answer: str
) -> None:
    node = slow.node
    with lab.volume("lasting-fails", at=node) as made:
        if tool == "e2fsck":
            volume.stage(node, made)
            volume.unstage(node, made)
        before = lab.mark(made)
        with slow.waiting(tool):
            _cut_off(slow, made, tool)
            slow.let_go(tool, exit_code)
        with refused(answer, "was told to fail"):
            volume.stage(node, made)
        assert lab.mark(made) == (before or _FORMATTING)
        volume.stage(node, made)
        assert len(slow.started(tool)) == 2
        assert lab.mark(made) == _FORMATTED


@pytest.mark.parametrize("end", [Driver.kill, Driver.stop])
def test_plugin_that_ends_takes_its_child_along_and_the_next_one_begins_again(
    lab: Lab, slow: SlowNode, end: Callable[[Driver], None]
) -> None:
    node = slow.node
    with lab.volume("lasting-killed", at=node) as made:
        with slow.waiting("mkfs.ext4"):
            _cut_off(slow, made, "mkfs.ext4")
            (pid,) = slow.pids("mkfs.ext4")
            end(node)
            commands.wait_until(lambda: not _runs(pid), "mkfs has died with its plugin")
            assert lab.mark(made) == _FORMATTING
        node.start()
        volume.stage(node, made)
        assert lab.mark(made) == _FORMATTED
        assert len(labs.daemons(node)) == 1


def test_result_of_a_child_counts_for_its_own_attachment_only(lab: Lab, slow: SlowNode) -> None:
    node, other = slow.node, lab.nodes[0]
    with lab.volume("lasting-elsewhere", at=node) as made:
        with slow.waiting("mkfs.ext4"):
            _cut_off(slow, made, "mkfs.ext4")
            slow.let_go("mkfs.ext4")
        volume.unstage(node, made)
        assert labs.held_at(node) == []
        volume.detach(lab.controller, made, labs.node_id(node))
        elsewhere = lab.again_attached(made, other)
        volume.stage(other, elsewhere)
        (elsewhere.staging(other) / "file").write_text("data")
        volume.unstage(other, elsewhere)
        volume.detach(lab.controller, made, labs.node_id(other))

        volume.attach(lab.controller, made, labs.node_id(node))
        volume.stage(node, made)
        assert (made.staging(node) / "file").read_text() == "data"
        assert len(slow.started("mkfs.ext4")) == 1


@pytest.mark.parametrize(
    ("fs_type", "options"), [("ext4", "-m0"), ("ext4", "-E stride=4"), ("ext4", "-Ediscard")]
)
def test_mkfs_never_discards(lab: Lab, slow: SlowNode, fs_type: str, options: str) -> None:
    parameters = {"mkfsOptions": options}
    with lab.volume("lasting-discard", at=slow.node, parameters=parameters) as made:
        volume.stage(slow.node, made)
        (arguments,) = slow.started(f"mkfs.{fs_type}")
        assert "nodiscard" in arguments.split()[-2]


@pytest.mark.parametrize("formatted", [True, False])
def test_device_in_use_is_refused_with_its_user(lab: Lab, victim: Driver, formatted: bool) -> None:
    """As when a child of a killed plugin has not died yet."""
    with lab.volume("in-use", at=victim) as made:
        if formatted:
            volume.stage(victim, made)
            volume.unstage(victim, made)
        mark = lab.mark(made)
        dying_after("stage.record", victim, lambda node: volume.stage(node, made))
        (device,) = labs.loop_devices(victim)
        claim = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with refused("ABORTED", str(device), "in use by", f"pid {os.getpid()}"):
                volume.stage(victim, made)
        finally:
            os.close(claim)
        assert lab.mark(made) == mark
        volume.stage(victim, made)


def test_device_that_is_mounted_elsewhere_is_refused_with_the_mount(
    lab: Lab, victim: Driver
) -> None:
    with lab.volume("mounted-elsewhere", at=victim) as made:
        volume.stage(victim, made)
        volume.unstage(victim, made)
        dying_after("stage.record", victim, lambda node: volume.stage(node, made))
        (device,) = labs.loop_devices(victim)
        elsewhere = victim.directory / "elsewhere"
        elsewhere.mkdir()
        command.run(("mount", str(device), str(elsewhere)), seconds=20)
        try:
            with refused("ABORTED", str(device), f"a mount at {elsewhere}"):
                volume.stage(victim, made)
        finally:
            command.run(("umount", str(elsewhere)), seconds=20)
            elsewhere.rmdir()
        volume.stage(victim, made)


def _runs(pid: int) -> bool:
    return any(process.pid == pid for process in processes.running())
