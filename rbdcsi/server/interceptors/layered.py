"""Runs the layers around each CSI call."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from rbdcsi.server.interceptors.call import Call, Layer, request_id

if TYPE_CHECKING:  # grpc's class takes parameters only in its type stubs
    _Handler = grpc.RpcMethodHandler[Any, Any]


class LayerInterceptor(grpc.ServerInterceptor):
    """Runs layers around every unary call of a CSI service, and not around other calls."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Run `layers` around each call, the outermost first."""
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


def run_layers(
    layers: Sequence[Layer],
    call: Call,
    request: Any,
    context: grpc.ServicerContext,
    serve: Callable[[Any, grpc.ServicerContext], Message],
) -> Message:
    """Run the layers around `serve` and return the response.

    Args:
        layers: the layers, the outermost first.
        call: the called method.
        request: the request's message.
        context: the call's gRPC context.
        serve: the service's method.
    """
    if not layers:
        return serve(request, context)
    first, *rest = layers
    return first(call, request, context, lambda: run_layers(rest, call, request, context, serve))
