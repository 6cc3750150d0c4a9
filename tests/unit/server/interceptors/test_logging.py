import io
from typing import Never

import grpc
import pytest
import structlog

from rbdcsi.api import csi_pb2
from rbdcsi.server.interceptors import logging
from rbdcsi.server.interceptors.call import Call
from rbdcsi.telemetry import logs
from tests.unit.server.interceptors.context import RESPONSE, Context, lines, run


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


def test_a_failed_call_is_a_warning_with_its_message(stream: io.StringIO) -> None:
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
