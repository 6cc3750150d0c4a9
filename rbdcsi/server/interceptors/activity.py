"""Records when a call last ended; see `server.activity`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors.call import Call, Layer


def noted(activity: Activity) -> Layer:
    """Return the layer that records each call's end, whether it succeeds or fails."""

    @contextlib.contextmanager
    def layer(_call: Call, _request: Any, _context: grpc.ServicerContext) -> Iterator[None]:
        try:
            yield
        finally:
            activity.call_ended()

    return layer
