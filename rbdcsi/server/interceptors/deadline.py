"""Bounds each call by its caller's deadline; adapters ask `runtime.deadlines` before each step."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from rbdcsi.runtime import deadlines
from rbdcsi.server.interceptors.call import Call, Layer


def bounded(longest: float) -> Layer:
    """Return the layer; `longest` is the seconds of a call whose caller allows more or any time."""

    def layer(
        _call: Call, _request: Any, context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        with deadlines.within(min(context.time_remaining(), longest)):
            return proceed()

    return layer
