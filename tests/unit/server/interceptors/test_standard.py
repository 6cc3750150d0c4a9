import contextlib
import io
import threading
from typing import Any, cast

import grpc

from rbdcsi.server import interceptors
from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors import layered
from rbdcsi.server.locks import KeyedLocks
from tests.unit.server.interceptors.context import (
    CALL,
    REQUEST,
    RESPONSE,
    Aborted,
    Context,
    lines,
)


def test_a_refusal_by_the_lock_is_mapped_counted_and_logged(stream: io.StringIO) -> None:
    entered, leave = threading.Event(), threading.Event()
    layers = interceptors.standard("n1", 300, KeyedLocks(), Activity(), 32)

    def slow(_request: object, _context: object) -> Any:
        entered.set()
        leave.wait(10)
        return RESPONSE

    def call(context: Context) -> None:
        caller = cast("grpc.ServicerContext", context)
        with contextlib.suppress(Aborted):
            layered.run_layers(layers, CALL, REQUEST, caller, slow)

    first, second = Context(), Context()
    thread = threading.Thread(target=call, args=(first,))
    thread.start()
    entered.wait(10)
    call(second)
    leave.set()
    thread.join()
    assert first.status is None
    assert second.status is grpc.StatusCode.ABORTED
    assert [line["code"] for line in lines(stream)] == ["ABORTED", "OK"]
