"""What happens around every CSI call, in one place: an ordered list of layers, outermost first.

A layer gets the call, its request and context, and `proceed` for all that is further in. Service
methods see none of it: no lock, timer, log line or status code.
"""

import errno
import logging
import re
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.message import Message

from rbdcsi import errors
from rbdcsi.runtime import deadlines
from rbdcsi.server import redact
from rbdcsi.server.activity import Progress
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()

REQUEST_ID = "x-request-id"  # metadata, both ways

# The field of the request that names what the call changes; calls that only read are not here.
LOCKED_BY = {
    "CreateVolume": "name",
    "DeleteVolume": "volume_id",
    "ControllerPublishVolume": "volume_id",
    "ControllerUnpublishVolume": "volume_id",
    "ControllerExpandVolume": "volume_id",
    "NodeStageVolume": "volume_id",
    "NodeUnstageVolume": "volume_id",
    "NodePublishVolume": "volume_id",
    "NodeUnpublishVolume": "volume_id",
    "NodeExpandVolume": "volume_id",
}

_QUIET = re.compile(r"Probe|.*GetCapabilities|GetPluginCapabilities")  # the kubelet asks all day
_SHOWN = 256  # characters of an identifier in a log line
_LONGEST_STATUS = 2000  # bytes; gRPC carries it in headers of 8 KiB, up to three bytes for one
_OUT_OF_MEANS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@dataclass(frozen=True)
class Call:
    """Which method is called (csi.v1's `service` and `method`), and the id that logs tell it by."""

    service: str
    method: str
    request_id: str


if TYPE_CHECKING:  # only the types of grpc know parameters
    _Handler = grpc.RpcMethodHandler[Any, Any]

Layer = Callable[[Call, Any, grpc.ServicerContext, Callable[[], Message]], Message]


class Layered(grpc.ServerInterceptor):
    """Wraps every call of a CSI service that has one answer; streams and other services pass."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "_Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        handler = continuation(handler_call_details)
        method = re.fullmatch(r"/csi\.v1\.(\w+)/(\w+)", handler_call_details.method)
        if handler is None or handler.unary_unary is None or method is None:
            return handler
        serve = handler.unary_unary
        call = Call(method[1], method[2], request_id(handler_call_details))
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: run_layers(self._layers, call, request, context, serve),
            handler.request_deserializer,
            handler.response_serializer,
        )


def lock_key(service: str, field: str, name: str) -> Hashable:
    """Return the key of the lock of what a service's request names in that field."""
    return service, field, name


def standard(node_id: str, longest: float, locks: KeyedLocks, progress: Progress) -> list[Layer]:
    """Return the layers of the driver, outermost first.

    Args:
        node_id: of the node whose plugin this is, for the log; empty for a controller.
        longest: seconds that a call may take whatever its caller allows.
        locks: held by calls; whoever else changes volumes holds them, too.
        progress: is told of each call's end.
    """
    return [
        noted(progress),
        logged(node_id),
        counted,
        errors_to_status,
        bounded(longest),
        locked(locks),
    ]


def noted(progress: Progress) -> Layer:
    """Take note of the call's end, however it ends."""

    def layer(
        _call: Call, _request: Any, _context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        try:
            return proceed()
        finally:
            progress.made()

    return layer


def logged(node_id: str) -> Layer:
    """Bind the call's facts to all it logs, and log its end as one line."""

    def layer(
        call: Call, request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(**_facts(call, request, node_id)):
            try:
                return proceed()
            finally:
                _log_end(call, request, context, time.monotonic() - started)

    return layer


def counted(
    call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
) -> Message:
    """Count the call and measure its time, by method and code."""
    started = time.monotonic()
    try:
        with metrics.RPC_IN_FLIGHT.labels(call.method).track_inprogress(), steps.timed():
            return proceed()
    finally:
        labels = call.method, _code(context)
        metrics.RPC_REQUESTS.labels(*labels).inc()
        metrics.RPC_SECONDS.labels(*labels).observe(time.monotonic() - started)


def errors_to_status(
    call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
) -> Message:
    """End a call that raised with the code and the words of its error."""
    try:
        return proceed()
    except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status of ours
        code, words = _status(call, error)
        return context.abort(code, _fitting(words))


def bounded(longest: float) -> Layer:
    """Bound the call by its caller's deadline and by `longest` seconds."""

    def layer(
        _call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        with deadlines.within(min(context.time_remaining(), longest)):
            return proceed()

    return layer


def locked(locks: KeyedLocks) -> Layer:
    """Refuse a call that would change what another call of the same service is changing."""

    def layer(
        call: Call, request: Any, _context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        field = LOCKED_BY.get(call.method, "")
        name = getattr(request, field) if field else ""
        if not name:
            return proceed()
        what = f"{call.method} of volume {_short(name)!r} (request {call.request_id})"
        with locks.hold(lock_key(call.service, field, name), what):
            return proceed()

    return layer


def run_layers(
    layers: Sequence[Layer],
    call: Call,
    request: Any,
    context: grpc.ServicerContext,
    serve: Callable[[Any, grpc.ServicerContext], Message],
) -> Message:
    if not layers:
        return serve(request, context)
    first, *rest = layers
    return first(call, request, context, lambda: run_layers(rest, call, request, context, serve))


def request_id(details: grpc.HandlerCallDetails) -> str:
    """Take the caller's id if it is fit for a log, or a new one."""
    for key, value in details.invocation_metadata or ():
        if key == REQUEST_ID and isinstance(value, str) and re.fullmatch(r"[!-~]{1,64}", value):
            return value
    return secrets.token_hex(8)


def _facts(call: Call, request: Any, node_id: str) -> dict[str, str]:
    facts = {
        "request_id": call.request_id,
        "method": call.method,
        "volume": getattr(request, "volume_id", "") or getattr(request, "name", ""),
        "node": getattr(request, "node_id", "") or node_id,
    }
    return {name: _short(value) for name, value in facts.items() if value}


def _log_end(call: Call, request: Any, context: grpc.ServicerContext, seconds: float) -> None:
    code = _code(context)
    facts: dict[str, object] = {"code": code, "seconds": round(seconds, 4)}
    if code != "OK":
        facts["error"] = _details(context)
    if not context.is_active():
        facts["caller_gone"] = True
    if _log.is_enabled_for(logging.DEBUG):
        facts["request"] = redact.loggable(request)
    _log.log(_level(call, code), "call", **facts)


def _level(call: Call, code: str) -> int:
    if code != "OK":
        return logging.ERROR if code == "INTERNAL" else logging.WARNING
    return logging.DEBUG if _QUIET.fullmatch(call.method) else logging.INFO


def _code(context: Any) -> str:
    code = context.code()
    return code.name if code else "OK"


def _details(context: Any) -> str:
    return bytes(context.details() or b"").decode()


def _status(call: Call, error: Exception) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, errors.RbdCsiError):
        return grpc.StatusCode[error.code], "; ".join(
            [str(error), *getattr(error, "__notes__", ())]
        )
    if isinstance(error, NotImplementedError):  # raised by the generated base classes
        return grpc.StatusCode.UNIMPLEMENTED, f"{call.service} has no {call.method} in this driver"
    _log.error("internal error", exc_info=error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _OUT_OF_MEANS:
        return (
            grpc.StatusCode.UNAVAILABLE,
            f"the driver has run out of memory, files or processes: {error}",
        )
    return (
        grpc.StatusCode.INTERNAL,
        f"internal error; request id {call.request_id}: see the driver's log",
    )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _fitting(words: str) -> str:
    """Make text that gRPC can carry: whole UTF-8, and short enough for a header."""
    encoded = words.encode(errors="backslashreplace")
    if len(encoded) <= _LONGEST_STATUS:
        return encoded.decode()
    return f"{encoded[:_LONGEST_STATUS].decode(errors='ignore')}…"
