"""Turns each error that a call raises into a gRPC status: a code and a message."""

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

import grpc
import structlog

from rbdcsi import errors
from rbdcsi.server.interceptors.call import Call
from rbdcsi.telemetry import metrics

_log = structlog.get_logger()

# gRPC carries the message in headers of 8 KiB and may encode one byte as three.
_LONGEST_MESSAGE = 2000  # bytes
_EXHAUSTED_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@contextlib.contextmanager
def errors_to_status(call: Call, _request: Any, context: grpc.ServicerContext) -> Iterator[None]:
    """End a call that raised an error with the error's code and message; see `call.Layer`."""
    try:
        yield
    except GeneratorExit:  # gRPC closes a stream whose caller is gone
        context.set_code(grpc.StatusCode.CANCELLED)
        raise
    except Exception as error:  # noqa: BLE001  every error becomes a status
        code, message = _status(call, error)
        context.abort(code, _fitting(message))


def _status(call: Call, error: Exception) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, errors.Refused):
        metrics.REFUSED.labels(call.method, error.reason).inc()
    if isinstance(error, errors.RbdCsiError):
        notes = getattr(error, "__notes__", ())
        return grpc.StatusCode[error.code], "; ".join([str(error), *notes])
    if isinstance(error, NotImplementedError):  # raised by the generated base classes
        return grpc.StatusCode.UNIMPLEMENTED, f"{call.service} has no {call.method} in this driver"
    _log.error("internal error", exc_info=error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _EXHAUSTED_ERRNOS:
        return (
            grpc.StatusCode.UNAVAILABLE,
            f"the driver has run out of memory, files or processes: {error}; repeat the call",
        )
    return (
        grpc.StatusCode.INTERNAL,
        f"internal error; request id {call.request_id}: see the driver's log",
    )


def _fitting(message: str) -> str:
    """Return the message in a form that gRPC can send: valid UTF-8, short enough for a header."""
    encoded = message.encode(errors="backslashreplace")
    if len(encoded) <= _LONGEST_MESSAGE:
        return encoded.decode()
    return f"{encoded[:_LONGEST_MESSAGE].decode(errors='ignore')}…"
