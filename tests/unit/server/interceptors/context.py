"""One call, and the context that the layers see, without a server around it."""

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any, Never, cast

import grpc

from rbdcsi.api import csi_pb2
from rbdcsi.server.interceptors.call import Call, Layer

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
        self.message = ""
        self.trailing: object = None

    def abort(self, code: grpc.StatusCode, details: str) -> Never:
        self.status, self.message = code, details
        raise Aborted

    def set_code(self, code: grpc.StatusCode) -> None:
        self.status = code

    def code(self) -> grpc.StatusCode | None:
        return self.status

    def details(self) -> bytes:
        return self.message.encode()

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
    with (
        contextlib.suppress(Aborted),
        layer(call, request, cast("grpc.ServicerContext", context)),
    ):
        proceed()
    return context


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the log lines in a stream."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
