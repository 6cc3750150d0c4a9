import subprocess
from collections.abc import Iterator

import pytest

from rbdcsi import errors
from rbdcsi.host import undo
from rbdcsi.server.locks import KeyedLocks


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_an_undo_that_fails_is_told_with_the_fault_that_it_follows() -> None:
    fault = errors.Failed("mount failed")
    with undo.after(fault, "unmapping"):
        _unmap_what_is_in_use()
    assert fault.__notes__ == ["unmapping failed too: in use"]


def _unmap_what_is_in_use() -> None:
    raise errors.Busy("in use")


def test_a_stuck_child_of_an_undo_keeps_the_volume_locked(child: subprocess.Popen[bytes]) -> None:
    locks, fault = KeyedLocks(), errors.Failed("mount failed")
    with (
        pytest.raises(errors.ChildStuck, match="mount failed; unmapping failed too: stuck"),
        locks.hold("v", "NodeStageVolume"),
        undo.after(fault, "unmapping"),
    ):
        raise errors.ChildStuck("stuck", child)
    with pytest.raises(errors.Busy, match=f"child {child.pid}"), locks.hold("v", "again"):
        pytest.fail("the child still works on the volume")
