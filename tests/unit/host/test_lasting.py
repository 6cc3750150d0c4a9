import subprocess
import threading
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host import command, lasting
from rbdcsi.runtime import deadlines

WORK = lasting.Work(("fsid", 1, "", "image"), 1, "make")
AFTER_GATE = 'read _ <"$0"; echo done; exit "$1"'


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe that a child waits on."""
    subprocess.run(("mkfifo", str(tmp_path / "gate")), check=True)
    return tmp_path / "gate"


def begin(children: lasting.LastingCommands, gate: Path, exit_code: int = 0) -> errors.ChildAlive:
    """Start a child that waits, in a call that ends before it; the call's thread ends, too."""
    caught: list[errors.ChildAlive] = []

    def call() -> None:
        argv = ("sh", "-c", AFTER_GATE, str(gate), str(exit_code))
        with pytest.raises(errors.ChildAlive) as info, deadlines.within(0.3):
            children.run(WORK, argv, step="making ext4 on /dev/rbd0")
        caught.append(info.value)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return caught[0]


def let_go(gate: Path) -> None:
    gate.write_text("\n")


def test_child_outlives_the_call_and_its_thread_and_gives_its_result_once(gate: Path) -> None:
    children = lasting.LastingCommands()
    error = begin(children, gate)
    assert str(error).startswith(
        f"making ext4 on /dev/rbd0: sh (child {error.child.pid}) has been running since 20"
    )
    assert error.child.poll() is None
    with deadlines.within(0), pytest.raises(errors.DeadlineExceeded):
        children.result(WORK)
    with deadlines.within(0.1), pytest.raises(errors.ChildAlive):
        children.result(WORK)
    let_go(gate)
    result = children.result(WORK)
    assert result
    assert result.text == "done\n"
    assert children.result(WORK) is None


def test_failure_is_raised_once(gate: Path) -> None:
    children = lasting.LastingCommands()
    begin(children, gate, exit_code=3)
    let_go(gate)
    with pytest.raises(command.CommandFailed, match="exit code 3"):
        children.result(WORK)
    assert children.result(WORK) is None


@pytest.mark.parametrize(
    "other",
    [
        lasting.Work(WORK.image, 2, "make"),
        lasting.Work(WORK.image, 1, "check"),
        lasting.Work(("other", 1, "", "image"), 1, "make"),
    ],
)
def test_result_of_other_work_is_none(gate: Path, other: lasting.Work) -> None:
    children = lasting.LastingCommands()
    begin(children, gate)
    let_go(gate)
    assert children.result(other) is None


def test_nothing_starts_on_an_image_while_a_child_works_on_it(gate: Path, tmp_path: Path) -> None:
    children = lasting.LastingCommands()
    begin(children, gate)
    touch = ("touch", str(tmp_path / "started"))
    with pytest.raises(errors.ChildAlive):
        children.run(lasting.Work(WORK.image, 2, "check"), touch, step="checking")
    assert not (tmp_path / "started").exists()
    let_go(gate)
    assert children.result(WORK)
    children.run(lasting.Work(WORK.image, 2, "check"), touch, step="checking")
    assert (tmp_path / "started").exists()


def test_program_that_does_not_start_is_a_failure() -> None:
    children = lasting.LastingCommands()
    for _ in range(2):
        with pytest.raises(command.CommandFailed, match="no-such-program"):
            children.run(WORK, ("no-such-program",), step="making")
