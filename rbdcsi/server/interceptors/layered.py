"""Runs the layers around each CSI call."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from rbdcsi.server.interceptors.call import Call, Layer, request_id

if TYPE_CHECKING:  # grpc's class takes parameters only in its type stubs
    _Handler = grpc.RpcMethodHandler[Any, Any]


class LayerInterceptor(grpc.ServerInterceptor):
    """Runs layers around every call of a CSI service, and not around other calls."""

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
        if handler is None or method is None:
            return handler
        call_id = request_id(handler_call_details)
        call = Call(method[1], method[2], call_id, handler.response_streaming)
        codec = handler.request_deserializer, handler.response_serializer
        if handler.unary_stream is not None:
            respond = self._stream(call, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(respond, *codec)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(call, handler.unary_unary), *codec
            )
        return handler  # CSI has no streams of requests

    def _unary(
        self, call: Call, serve: Callable[[Any, grpc.ServicerContext], Message]
    ) -> Callable[[Any, grpc.ServicerContext], Message]:
        def respond(request: Any, context: grpc.ServicerContext) -> Message:
            with entered(self._layers, call, request, context):
                return serve(request, context)

        return respond

    def _stream(
        self, call: Call, serve: Callable[[Any, grpc.ServicerContext], Iterator[Message]]
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Message]]:
        def respond(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
            # gRPC runs this generator in one thread, and closes it when the caller is gone.
            with entered(self._layers, call, request, context):
                yield from serve(request, context)

        return respond


@contextlib.contextmanager
def entered(
    layers: Sequence[Layer], call: Call, request: Any, context: grpc.ServicerContext
) -> Iterator[None]:
    """Run the body inside the layers.

    Args:
        layers: the layers, the outermost first.
        call: the called method.
        request: the request's message.
        context: the call's gRPC context.
    """
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer(call, request, context))
        yield
