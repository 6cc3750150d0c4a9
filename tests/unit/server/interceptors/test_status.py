import io
from collections.abc import Callable
from typing import Never

import grpc
import pytest

from rbdcsi import errors
from rbdcsi.server.interceptors import status
from rbdcsi.telemetry import metrics
from tests.unit.server.interceptors.context import CALL, lines, run


def failing(error: Exception) -> Callable[[], Never]:
    def proceed() -> Never:
        raise error

    return proceed


@pytest.mark.parametrize("kind", errors.RbdCsiError.__subclasses__())
def test_a_domain_error_becomes_its_code_with_its_message(kind: type[errors.RbdCsiError]) -> None:
    context = run(status.errors_to_status, failing(kind("volume v1 is not there")))
    assert context.status is grpc.StatusCode[kind.code]
    assert context.message == "volume v1 is not there"


@pytest.mark.parametrize("kind", [errors.Refused, *errors.Refused.__subclasses__()])
def test_a_refusal_is_counted_by_its_reason(kind: type[errors.Refused]) -> None:
    def count() -> float:
        labels = {"method": CALL.method, "reason": kind.reason}
        return metrics.REGISTRY.get_sample_value("rbdcsi_calls_refused_total", labels) or 0

    before = count()
    context = run(status.errors_to_status, failing(kind("it is in use")))
    assert context.status is grpc.StatusCode.FAILED_PRECONDITION
    assert count() == before + 1


def test_faults_of_the_undo_are_told_with_the_first_error() -> None:
    error = errors.Failed("mount failed")
    error.add_note("unmap failed, too")
    context = run(status.errors_to_status, failing(error))
    assert context.message == "mount failed; unmap failed, too"


def test_any_other_error_tells_the_caller_only_where_to_look(stream: io.StringIO) -> None:
    context = run(status.errors_to_status, failing(KeyError("inside")))
    assert context.status is grpc.StatusCode.INTERNAL
    assert context.message == "internal error; request id r1: see the driver's log"
    (line,) = lines(stream)
    assert (line["error_type"], line["error"]) == ("KeyError", "'inside'")
    assert "test_status.py" in line["where"]


@pytest.mark.parametrize("error", [MemoryError("m"), OSError(24, "Too many open files")])
def test_running_out_of_means_is_unavailable_so_the_caller_repeats(
    error: Exception, stream: io.StringIO
) -> None:
    context = run(status.errors_to_status, failing(error))
    assert context.status is grpc.StatusCode.UNAVAILABLE
    assert len(lines(stream)) == 1


def test_a_method_that_is_not_served_is_unimplemented() -> None:
    context = run(status.errors_to_status, failing(NotImplementedError("x")))
    assert context.status is grpc.StatusCode.UNIMPLEMENTED
    assert context.message == "Controller has no DeleteVolume in this driver"


@pytest.mark.parametrize("message", ["é" * 5000, "a" + "😀" * 5000, "\udcff" * 3000])
def test_a_message_of_any_length_fits_the_header_that_carries_it(message: str) -> None:
    context = run(status.errors_to_status, failing(errors.Failed(message)))
    assert 1000 < len(context.message.encode()) < 2010
