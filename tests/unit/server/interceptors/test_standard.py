import contextlib
import io
import threading
from typing import cast

import grpc

from rbdcsi.server import interceptors
from rbdcsi.server.activity import Activity
from rbdcsi.server.interceptors import layered
from rbdcsi.server.locks import KeyedLocks
from tests.unit.server.interceptors.context import (
    CALL,
    REQUEST,
    Aborted,
    Context,
    lines,
)


def test_a_refusal_by_the_lock_is_mapped_counted_and_logged(stream: io.StringIO) -> None:
    entered, leave = threading.Event(), threading.Event()
    layers = interceptors.standard("n1", 300, 3600, KeyedLocks(), Activity(), 32)

    def call(context: Context) -> None:
        caller = cast("grpc.ServicerContext", context)
        with contextlib.suppress(Aborted), layered.entered(layers, CALL, REQUEST, caller):
            entered.set()
            leave.wait(10)

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
