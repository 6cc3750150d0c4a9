import contextlib
import io
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Never, cast

import grpc
import pytest
import structlog

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.runtime import deadlines
from rbdcsi.server import interceptors
from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors import (
    call,
    deadline,
    layered,
    logging,
    status,
    volume_lock,
)
from rbdcsi.server.interceptors import metrics as call_metrics
from rbdcsi.server.interceptors.call import Call, Layer
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.telemetry import logs, metrics

CALL = Call("Controller", "DeleteVolume", "r1")
REQUEST = csi_pb2.DeleteVolumeRequest(volume_id="v1", secrets={"userKey": "AQCanary=="})
RESPONSE = csi_pb2.DeleteVolumeResponse()


class Aborted(Exception):
    """As grpc's own, which has no name."""


class Context:
    """The part of grpc.ServicerContext that layers use, without a server around it."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds, self.active = seconds, True
        self.status: grpc.StatusCode | None = None
        self.words = ""
        self.trailing: object = None

    def abort(self, code: grpc.StatusCode, details: str) -> Never:
        self.status, self.words = code, details
        raise Aborted

    def code(self) -> grpc.StatusCode | None:
        return self.status

    def details(self) -> bytes:
        return self.words.encode()

    def is_active(self) -> bool:
        return self.active

    def time_remaining(self) -> float:
        return self.seconds

    def set_trailing_metadata(self, metadata: object) -> None:
        self.trailing = metadata


def run(
    layer: Layer,
    proceed: Callable[[], Any],
    context: Context | None = None,
    call: Call = CALL,
    request: Any = REQUEST,
) -> Context:
    """Run one layer to its end and return the context as the caller would see it."""
    context = context or Context()
    with contextlib.suppress(Aborted):
        layer(call, request, cast("grpc.ServicerContext", context), proceed)
    return context


def failing(error: Exception) -> Callable[[], Never]:
    def proceed() -> Never:
        raise error

    return proceed


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# ---- errors to status


@pytest.mark.parametrize("kind", errors.RbdCsiError.__subclasses__())
def test_a_domain_error_becomes_its_code_with_its_words(kind: type[errors.RbdCsiError]) -> None:
    context = run(status.errors_to_status, failing(kind("volume v1 is not there")))
    assert context.status is grpc.StatusCode[kind.code]
    assert context.words == "volume v1 is not there"


def test_faults_of_the_undo_are_told_with_the_first_error() -> None:
    error = errors.Failed("mount failed")
    error.add_note("unmap failed, too")
    context = run(status.errors_to_status, failing(error))
    assert context.words == "mount failed; unmap failed, too"


def test_any_other_error_tells_the_caller_only_where_to_look(stream: io.StringIO) -> None:
    context = run(status.errors_to_status, failing(KeyError("inside")))
    assert context.status is grpc.StatusCode.INTERNAL
    assert context.words == "internal error; request id r1: see the driver's log"
    (line,) = lines(stream)
    assert (line["error_type"], line["error"]) == ("KeyError", "'inside'")
    assert "test_interceptors.py" in line["where"]


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
    assert context.words == "Controller has no DeleteVolume in this driver"


@pytest.mark.parametrize("words", ["é" * 5000, "a" + "😀" * 5000, "\udcff" * 3000])
def test_words_of_any_length_fit_the_header_that_carries_them(words: str) -> None:
    context = run(status.errors_to_status, failing(errors.Failed(words)))
    assert 1000 < len(context.words.encode()) < 2010


# ---- deadline


def test_the_callers_deadline_reaches_the_steps() -> None:
    left: list[float] = []
    layer = deadline.bounded(300)
    run(layer, lambda: left.append(deadlines.remaining(1000)), Context(seconds=20))
    run(layer, lambda: left.append(deadlines.remaining(1000)), Context(seconds=9e9))
    assert 19 < left[0] <= 20
    assert 299 < left[1] <= 300


def test_a_call_whose_time_is_over_begins_no_step() -> None:
    with pytest.raises(errors.DeadlineExceeded):
        run(deadline.bounded(300), lambda: deadlines.remaining(1), Context(seconds=0))


# ---- lock


def overlap(first: tuple[str, str, Any], second: tuple[str, str, Any]) -> None:
    layer = volume_lock.locked(KeyedLocks())

    def inner() -> None:
        service, method, request = second
        run(layer, lambda: RESPONSE, call=Call(service, method, "r2"), request=request)

    service, method, request = first
    run(layer, inner, call=Call(service, method, "r1"), request=request)


ATTACH = csi_pb2.ControllerPublishVolumeRequest(volume_id="v1", node_id="n1")
DETACH = csi_pb2.ControllerUnpublishVolumeRequest(volume_id="v1", node_id="n2")
STAGE = csi_pb2.NodeStageVolumeRequest(volume_id="v1")
CREATE = csi_pb2.CreateVolumeRequest(name="v1")


def test_two_changes_of_one_volume_exclude_each_other() -> None:
    with pytest.raises(
        errors.Busy, match=r"ControllerPublishVolume of volume 'v1' \(request r1\) has run for"
    ):
        overlap(
            ("Controller", "ControllerPublishVolume", ATTACH),
            ("Controller", "ControllerUnpublishVolume", DETACH),
        )


def test_two_creates_of_one_name_exclude_each_other() -> None:
    with pytest.raises(errors.Busy):
        overlap(("Controller", "CreateVolume", CREATE), ("Controller", "CreateVolume", CREATE))


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("Node", "NodeStageVolume", STAGE),  # one process may serve both
        ("Controller", "CreateVolume", CREATE),  # a name is no volume id
        ("Controller", "ControllerGetVolume", csi_pb2.ControllerGetVolumeRequest(volume_id="v1")),
        ("Controller", "DeleteVolume", csi_pb2.DeleteVolumeRequest(volume_id="v2")),
    ],
)
def test_what_cannot_collide_runs_beside(service: str, method: str, request_: Any) -> None:
    overlap(("Controller", "ControllerPublishVolume", ATTACH), (service, method, request_))


def test_calls_without_a_volume_are_left_to_the_checks_of_the_request() -> None:
    empty = csi_pb2.CreateVolumeRequest()
    overlap(("Controller", "CreateVolume", empty), ("Controller", "CreateVolume", empty))


def test_every_locked_method_and_its_field_are_in_csi() -> None:
    services = csi_pb2.DESCRIPTOR.services_by_name.values()
    methods = {method.name: method for service in services for method in service.methods}
    for method, field in volume_lock.LOCKED_BY.items():
        assert field in methods[method].input_type.fields_by_name


# ---- log


def test_a_call_is_one_line_with_its_facts(stream: io.StringIO) -> None:
    context = Context()
    run(logging.logged("n1"), lambda: RESPONSE, context)
    (line,) = lines(stream)
    assert line["seconds"] >= 0
    facts = ("level", "event", "request_id", "method", "volume", "node", "code")
    assert [line[name] for name in facts] == [
        "info", "call", "r1", "DeleteVolume", "v1", "n1", "OK",
    ]  # fmt: skip
    assert "request" not in line
    assert context.trailing == (("x-request-id", "r1"),)


def test_what_a_call_logs_carries_its_facts_and_nothing_of_them_stays(stream: io.StringIO) -> None:
    run(logging.logged(""), lambda: structlog.get_logger().info("in trash"))
    structlog.get_logger().info("afterwards")
    inside, _, after = lines(stream)
    assert (inside["request_id"], inside["volume"]) == ("r1", "v1")
    assert "request_id" not in after


def test_a_failed_call_is_a_warning_with_its_words(stream: io.StringIO) -> None:
    def proceed() -> Never:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such volume")

    context = Context()
    context.active = False
    run(logging.logged(""), proceed, context)
    (line,) = lines(stream)
    assert (line["level"], line["code"], line["error"]) == (
        "warning", "NOT_FOUND", "no such volume",
    )  # fmt: skip
    assert line["caller_gone"] is True


def test_debug_shows_the_request_without_its_secrets() -> None:
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    run(logging.logged(""), lambda: RESPONSE)
    (line,) = lines(stream)
    assert line["request"] == {"volume_id": "v1", "secrets": "***"}
    assert "Canary" not in stream.getvalue()


@pytest.mark.parametrize(
    "method", ["Probe", "GetPluginCapabilities", "ControllerGetCapabilities", "NodeGetCapabilities"]
)
def test_what_is_asked_all_day_is_quiet_while_it_is_well(method: str, stream: io.StringIO) -> None:
    call = Call("Identity", method, "r1")
    layer = logging.logged("")
    run(layer, lambda: RESPONSE, call=call, request=csi_pb2.ProbeRequest())
    assert lines(stream) == []
    context = Context()
    context.status = grpc.StatusCode.UNAVAILABLE
    run(layer, lambda: RESPONSE, context, call, csi_pb2.ProbeRequest())
    assert lines(stream)[0]["level"] == "warning"


def test_an_id_of_any_length_makes_a_line_that_can_be_read(stream: io.StringIO) -> None:
    request = csi_pb2.DeleteVolumeRequest(volume_id="v\n" * 100_000)
    run(logging.logged(""), lambda: RESPONSE, request=request)
    assert len(stream.getvalue()) < 2000


# ---- request id


def id_of(*metadata: tuple[str, str | bytes]) -> str:
    details = SimpleNamespace(method="/csi.v1.Identity/Probe", invocation_metadata=metadata)
    return call.request_id(cast("grpc.HandlerCallDetails", details))


def test_the_callers_request_id_is_kept_when_it_is_fit_for_a_log() -> None:
    assert id_of(("a", "b"), ("x-request-id", "abc-1")) == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "a\n", "x" * 65, "é", b"a"])
def test_another_request_id_is_replaced(given: str | bytes) -> None:
    found = id_of(("x-request-id", given))
    assert found != given
    assert len(found) == 16


# ---- metrics


def test_calls_are_counted_by_method_and_code_and_while_they_run() -> None:
    def count(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    def proceed() -> Never:
        assert count("rbdcsi_rpc_in_flight", method="DeleteVolume") == 1
        context.abort(grpc.StatusCode.ABORTED, "busy")

    before = count("rbdcsi_rpc_requests_total", method="DeleteVolume", code="ABORTED")
    context = Context()
    run(call_metrics.counted, proceed, context)
    assert count("rbdcsi_rpc_in_flight", method="DeleteVolume") == 0
    labels = {"method": "DeleteVolume", "code": "ABORTED"}
    assert count("rbdcsi_rpc_requests_total", **labels) == before + 1
    assert count("rbdcsi_rpc_duration_seconds_count", **labels) == before + 1


# ---- the order


def test_a_refusal_by_the_lock_is_mapped_counted_and_logged(stream: io.StringIO) -> None:
    entered, leave = threading.Event(), threading.Event()
    layers = interceptors.standard("n1", 300, KeyedLocks(), Activity())

    def slow(_request: object, _context: object) -> Any:
        entered.set()
        leave.wait(10)
        return RESPONSE

    def call(context: Context) -> None:
        caller = cast("grpc.ServicerContext", context)
        with contextlib.suppress(Aborted):
            layered.run_layers(layers, CALL, REQUEST, caller, slow)

    first, second = Context(), Context()
    thread = threading.Thread(target=call, args=(first,))
    thread.start()
    entered.wait(10)
    call(second)
    leave.set()
    thread.join()
    assert first.status is None
    assert second.status is grpc.StatusCode.ABORTED
    assert [line["code"] for line in lines(stream)] == ["ABORTED", "OK"]
