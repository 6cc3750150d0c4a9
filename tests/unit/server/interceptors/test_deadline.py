import pytest

from rbdcsi import errors
from rbdcsi.runtime import deadlines
from rbdcsi.server.interceptors import deadline
from rbdcsi.server.interceptors.call import Call
from tests.unit.server.interceptors.context import Context, run


def test_the_callers_deadline_reaches_the_steps() -> None:
    left: list[float] = []
    layer = deadline.bounded(300, 3600)
    run(layer, lambda: left.append(deadlines.remaining(1000)), Context(seconds=20))
    run(layer, lambda: left.append(deadlines.remaining(1000)), Context(seconds=9e9))
    assert 19 < left[0] <= 20
    assert 299 < left[1] <= 300


def test_a_stream_may_take_longer() -> None:
    left: list[float] = []
    call = Call("SnapshotMetadata", "GetMetadataDelta", "r1", is_stream=True)
    layer = deadline.bounded(300, 3600)
    run(layer, lambda: left.append(deadlines.remaining(9000)), Context(seconds=9e9), call)
    assert 3599 < left[0] <= 3600


def test_a_call_whose_time_is_over_begins_no_step() -> None:
    with pytest.raises(errors.DeadlineExceeded):
        run(deadline.bounded(300, 3600), lambda: deadlines.remaining(1), Context(seconds=0))
