"""Bounds each call by its caller's deadline; adapters check it by `runtime.deadlines`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from rbdcsi.runtime import deadlines
from rbdcsi.server.interceptors.call import Call, Layer


def bounded(longest: float, longest_stream: float) -> Layer:
    """Return the layer.

    Args:
        longest: the most seconds of a call, even if its caller allows more.
        longest_stream: the same for a call that streams its response.
    """

    @contextlib.contextmanager
    def layer(call: Call, _request: Any, context: grpc.ServicerContext) -> Iterator[None]:
        most = longest_stream if call.is_stream else longest
        with deadlines.within(min(context.time_remaining(), most)):
            yield

    return layer
