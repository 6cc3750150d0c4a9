"""Records when a call last ended; see `server.activity`."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors.call import Call, Layer


def noted(activity: Activity) -> Layer:
    """Return the layer that records each call's end, whether it succeeds or fails."""

    def layer(
        _call: Call, _request: Any, _context: grpc.ServicerContext, proceed: Callable[[], Message]
    ) -> Message:
        try:
            return proceed()
        finally:
            activity.call_ended()

    return layer
