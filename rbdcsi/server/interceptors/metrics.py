"""Counts each call and measures its time, by method and gRPC code."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import grpc

from rbdcsi.server.interceptors.call import Call, code_of
from rbdcsi.telemetry import metrics, steps


@contextlib.contextmanager
def counted(call: Call, _request: Any, context: grpc.ServicerContext) -> Iterator[None]:
    """Count the call and measure its time; see `call.Layer`."""
    started = time.monotonic()
    try:
        with metrics.RPC_IN_FLIGHT.labels(call.method).track_inprogress(), steps.timed():
            yield
    finally:
        labels = call.method, code_of(context)
        metrics.RPC_REQUESTS.labels(*labels).inc()
        metrics.RPC_SECONDS.labels(*labels).observe(time.monotonic() - started)
