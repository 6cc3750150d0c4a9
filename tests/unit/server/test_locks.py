import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from e2e import processes
from rbdcsi import errors
from rbdcsi.server.locks import KeyedLocks


def stuck(child: subprocess.Popen[bytes]) -> errors.ChildStuck:
    return errors.ChildStuck("umount does not die", child)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with processes.start(["sleep", "600"], subprocess.DEVNULL) as process:
        yield process
        process.kill()


def test_second_caller_is_refused_at_once_and_the_first_one_named() -> None:
    locks = KeyedLocks()
    with (
        locks.hold("v", "NodeStageVolume of volume 'v'"),
        pytest.raises(errors.Busy, match=r"NodeStageVolume of volume 'v' has run for \d+\.\d s"),
        locks.hold("v", "other"),
    ):
        pytest.fail("two callers hold one key")


def test_other_keys_are_free() -> None:
    locks = KeyedLocks()
    with locks.hold("v", "a"), locks.hold("w", "b"), locks.hold(("v", 1), "c"):
        pass


def test_key_is_free_after_the_body_even_if_it_fails() -> None:
    locks = KeyedLocks()
    with pytest.raises(ValueError, match="x"), locks.hold("v", "a"):
        raise ValueError("x")
    with locks.hold("v", "b"):
        pass


def test_of_many_threads_one_at_a_time_is_inside() -> None:
    locks, inside, most, refused = KeyedLocks(), [0], [0], [0]
    start = threading.Barrier(16)

    def call() -> None:
        start.wait()
        for _ in range(200):
            try:
                with locks.hold("v", "call"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.0001)  # another thread tries
                    inside[0] -= 1
            except errors.Busy:
                refused[0] += 1

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert refused[0] > 0
    with locks.hold("v", "last"):
        pass


def test_a_child_that_cannot_be_killed_keeps_the_key_until_it_is_gone(
    child: subprocess.Popen[bytes],
) -> None:
    locks = KeyedLocks()
    with pytest.raises(errors.ChildStuck), locks.hold("v", "NodeUnstageVolume of volume 'v'"):
        raise stuck(child)
    for _ in range(2):
        with (
            pytest.raises(
                errors.Busy,
                match=rf"NodeUnstageVolume of volume 'v' began .* s ago and its child {child.pid} "
                r"still lives \(umount does not die\)",
            ),
            locks.hold("v", "NodeStageVolume"),
        ):
            pytest.fail("the child still works on the volume")
    child.kill()
    child.wait()
    with locks.hold("v", "NodeStageVolume"):
        pass


def test_a_child_behind_another_error_is_found(child: subprocess.Popen[bytes]) -> None:
    locks = KeyedLocks()
    with pytest.raises(errors.Failed), locks.hold("v", "NodeStageVolume"):
        raise errors.Failed("stage failed") from stuck(child)
    with pytest.raises(errors.Busy, match=f"child {child.pid}"), locks.hold("v", "again"):
        pytest.fail("the child still works on the volume")


def test_a_child_that_died_in_the_meantime_keeps_nothing(child: subprocess.Popen[bytes]) -> None:
    locks = KeyedLocks()
    child.kill()
    child.wait()
    with pytest.raises(errors.ChildStuck), locks.hold("v", "NodeUnstageVolume"):
        raise stuck(child)
    with locks.hold("v", "NodeStageVolume"):
        pass
