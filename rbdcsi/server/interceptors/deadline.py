"""Bounds each call by its caller's deadline; adapters check it by `runtime.deadlines`."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from rbdcsi.runtime import deadlines
from rbdcsi.server.interceptors.call import Call, Layer


def bounded(longest: float) -> Layer:
    """Return the layer; `longest` is the most seconds of a call, even if its caller allows more."""

    def layer(
        _call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        with deadlines.within(min(context.time_remaining(), longest)):
            return proceed()

    return layer
