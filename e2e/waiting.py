"""Calls that wait for a pool or cluster that does not answer."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from e2e import volume
from rbdcsi.api import csi_pb2


@contextlib.contextmanager
def calls(
    controller: volume.Controller,
    parameters: Mapping[str, str],
    *,
    at_once: int,
    seconds: float,
    pause: float,
) -> Iterator[None]:
    """Let many callers ask for volumes, `waiting-0` and so on, during the body.

    Args:
        controller: it is asked.
        parameters: of a place that does not answer.
        at_once: how many callers.
        seconds: the deadline of each call.
        pause: seconds after which a caller that was refused asks again.
    """
    stopping, stub = threading.Event(), controller.controller

    def ask(number: int) -> None:
        request = csi_pb2.CreateVolumeRequest(
            name=f"waiting-{number}",
            capacity_range=csi_pb2.CapacityRange(required_bytes=16 * volume.MIB),
            volume_capabilities=[volume.mounted()],
            parameters=parameters,
        )
        while not stopping.is_set():
            with contextlib.suppress(grpc.RpcError, ValueError):  # its channel was closed
                stub.CreateVolume(request, timeout=seconds)
            stopping.wait(pause)

    with ThreadPoolExecutor(at_once) as threads:
        for number in range(at_once):
            threads.submit(ask, number)
        try:
            yield
        finally:
            stopping.set()
