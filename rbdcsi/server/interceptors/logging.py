"""Logs each call as one line, and adds the call's facts to every line logged inside it."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import grpc
import structlog

from rbdcsi.server import redact
from rbdcsi.server.interceptors.call import REQUEST_ID, Call, Layer, code_of, shortened

_log = structlog.get_logger()

# The kubelet and the sidecars repeat these calls all day; only failures are logged.
_QUIET = re.compile(r"Probe|.*GetCapabilities|GetPluginCapabilities")


def logged(node_id: str) -> Layer:
    """Return the layer; `node_id` is the id of the node plugin, empty for a controller."""

    @contextlib.contextmanager
    def layer(call: Call, request: Any, context: grpc.ServicerContext) -> Iterator[None]:
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(**_facts(call, request, node_id)):
            try:
                yield
            finally:
                _log_end(call, request, context, time.monotonic() - started)

    return layer


def _facts(call: Call, request: Any, node_id: str) -> dict[str, str]:
    named = "snapshot" if call.method.endswith("Snapshot") else "volume"
    facts = {
        "request_id": call.request_id,
        "method": call.method,
        "volume": getattr(request, "volume_id", "") or getattr(request, "source_volume_id", ""),
        "snapshot": getattr(request, "snapshot_id", "")
        or getattr(request, "target_snapshot_id", ""),
        "node": getattr(request, "node_id", "") or node_id,
    }
    facts[named] = facts[named] or getattr(request, "name", "")
    return {name: shortened(value) for name, value in facts.items() if value}


def _log_end(call: Call, request: Any, context: grpc.ServicerContext, seconds: float) -> None:
    code = code_of(context)
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


def _details(context: Any) -> str:
    return bytes(context.details() or b"").decode()
