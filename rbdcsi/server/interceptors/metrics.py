"""Counts each call and measures its time, by method and gRPC code."""

import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from rbdcsi.server.interceptors.call import Call, code_of
from rbdcsi.telemetry import metrics, steps


def counted(
    call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
) -> Message:
    """Count the call and measure its time; see `call.Layer`."""
    started = time.monotonic()
    try:
        with metrics.RPC_IN_FLIGHT.labels(call.method).track_inprogress(), steps.timed():
            return proceed()
    finally:
        labels = call.method, code_of(context)
        metrics.RPC_REQUESTS.labels(*labels).inc()
        metrics.RPC_SECONDS.labels(*labels).observe(time.monotonic() - started)
