"""Many calls at the same moment, and what became of each; a call repeated as orchestrators do."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import grpc

from e2e import volume

Answer = TypeVar("Answer")


def call(calls: Sequence[Callable[[], Answer]]) -> tuple[list[Answer], list[str]]:
    """Make all calls at once; returns the answers, and the codes of those refused."""
    together = threading.Barrier(len(calls))

    def one(each: Callable[[], Answer]) -> Answer | grpc.StatusCode:
        together.wait(30)
        try:
            return each()
        except grpc.RpcError as error:
            return cast(grpc.Call, error).code()

    with ThreadPoolExecutor(len(calls)) as threads:
        ends = list(threads.map(one, calls))
    codes = [end.name for end in ends if isinstance(end, grpc.StatusCode)]
    return [end for end in ends if not isinstance(end, grpc.StatusCode)], codes


def repeated(
    call: Callable[[], Answer], seconds: float = 30, codes: Sequence[str] = ("ABORTED",)
) -> Answer:
    """Make the call again while it ends with one of these codes; by default: it is under way."""

    def among(error: grpc.RpcError) -> bool:
        return cast(grpc.Call, error).code().name in codes

    return volume.until_let_through(call, seconds, among=among, pause=0.1)
