"""The record of one CSI call that the layers get, and the type of a layer."""

import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc

REQUEST_ID = "x-request-id"  # gRPC metadata of the request and of the response

_SHOWN_CHARACTERS = 256


@dataclass(frozen=True)
class Call:
    """The called method (`service` and `method` of csi.v1), and the call's id in logs."""

    service: str
    method: str
    request_id: str
    is_stream: bool = False


# A layer takes the call, its request and context. Its body runs the layers below it; in a call that
# streams its response, the body lasts until the last message is sent, or the caller goes away.
Layer = Callable[[Call, Any, grpc.ServicerContext], AbstractContextManager[None]]


def request_id(details: grpc.HandlerCallDetails) -> str:
    """Return the request id that the caller sent if it is printable, otherwise a new one."""
    for key, value in details.invocation_metadata or ():
        if key == REQUEST_ID and isinstance(value, str) and re.fullmatch(r"[!-~]{1,64}", value):
            return value
    return secrets.token_hex(8)


def code_of(context: Any) -> str:
    """Return the name of the gRPC code that the call ends with."""
    code = context.code()
    return code.name if code else "OK"


def shortened(text: str) -> str:
    """Return an identifier, cut to a length that fits a log line or a message."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
