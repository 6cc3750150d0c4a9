"""Background work goes on after an error."""

import itertools
import queue

import pytest
import structlog

from rbdcsi.runtime import periodic
from rbdcsi.runtime.periodic import PeriodicTask


@pytest.mark.parametrize("error", [ZeroDivisionError("the cause"), OSError("the cause")])
def test_work_that_raises_is_logged_and_repeated(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "_RETRY_SECONDS", 0)
    runs: queue.Queue[int] = queue.Queue()
    numbers = itertools.count()

    def work() -> float:
        number = next(numbers)
        runs.put(number)
        if number == 0:
            raise error
        return 0

    with structlog.testing.capture_logs() as logs:
        task = PeriodicTask("counting", work)
        task.start()
        for _ in range(3):
            runs.get(timeout=30)
        task.stop()
    first = logs[0]
    assert (first["event"], first["log_level"]) == (
        "background work failed, to be repeated",
        "error",
    )
    assert (first["task"], first["exc_info"]) == ("counting", error)


def test_pause_after_an_error_ends_when_the_task_stops() -> None:
    tried: queue.Queue[int] = queue.Queue()

    def work() -> float:
        tried.put(1)
        raise ZeroDivisionError

    task = PeriodicTask("failing", work)
    task.start()
    tried.get(timeout=30)
    task.stop()
    task._thread.join(30)
    assert not task._thread.is_alive()
