"""Runs the gRPC server on its unix socket, stops it in order, and calls its Probe."""

import contextlib
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import structlog

from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.config.options import Options
from rbdcsi.server import interceptors, unix_socket
from rbdcsi.server.activity import Activity
from rbdcsi.server.health import Health
from rbdcsi.server.interceptors.call import REQUEST_ID
from rbdcsi.server.interceptors.layered import LayerInterceptor
from rbdcsi.server.locks import KeyedLocks

_log = structlog.get_logger()
_Code = grpc.StatusCode

LONGEST_CALL = 300.0  # seconds of a call without a deadline; sidecars and kubelet set shorter ones
LONGEST_STREAM = 3600.0  # the chart sets the same limit for external-snapshot-metadata
PROBE_SECONDS = 5.0


def serve(
    options: Options,
    add_services: Callable[[grpc.Server], None],
    wait_for_stop: Callable[[], object],
    locks: KeyedLocks,
    activity: Activity,
) -> bool:
    """Serve until `wait_for_stop` returns, then refuse new calls and finish the running ones.

    Args:
        options: the socket, the limits and the times.
        add_services: adds the CSI services to the server.
        wait_for_stop: returns when the server is to end.
        locks: the locks that calls take while they change a volume.
        activity: records the end of each call for `probe`.

    Returns:
        Whether every call ended within `stop_grace`; if not, threads of this process still run.

    Raises:
        Refused: the socket cannot be opened.
    """
    # A thread for each call: those that wait for a sick cluster hold none that others need.
    workers = _Threads(options.max_concurrent)
    layers = interceptors.standard(
        options.node_id, LONGEST_CALL, LONGEST_STREAM, locks, activity, options.workers
    )
    server = grpc.server(
        workers,
        interceptors=[LayerInterceptor(layers)],
        maximum_concurrent_rpcs=options.max_concurrent,
    )
    add_services(server)
    with unix_socket.published(options.socket, lambda path: _listen(server, path)):
        server.start()
        _log.info("serving", socket=str(options.socket))
        wait_for_stop()
        _log.info("stopping", grace_seconds=options.stop_grace)
        server.stop(options.stop_grace).wait()
    return _finished(workers)


def probe(
    socket: Path,
    activity: Activity,
    seconds: float = PROBE_SECONDS,
    patience: float = LONGEST_CALL,
) -> Health:
    """Return the driver's health for the kubelet's probes.

    While every thread serves a slow call, a Probe is refused, and a busy driver must not be
    killed. But no call may last longer than `patience` seconds, so if no call has ended for that
    time, all threads hang.

    Args:
        socket: the driver's socket.
        activity: records the calls of the driver's server.
        seconds: the driver must answer within this time.
        patience: the longest time of one call, in seconds.
    """
    with grpc.insecure_channel(_target(socket)) as channel:
        try:
            answer = csi_pb2_grpc.IdentityStub(channel).Probe(
                csi_pb2.ProbeRequest(), timeout=seconds
            )
        except grpc.RpcError as error:  # it is also a grpc.Call
            return _failed_probe(error, activity.age(), patience)
    ready = answer.ready.value or not answer.HasField("ready")  # CSI: a missing field means ready
    return Health(True, ready, "ready" if ready else "not ready yet: see the driver's log")


def _failed_probe(error: Any, age: float, patience: float) -> Health:
    """Return the health of a driver whose Probe failed: it is alive if the error came from it."""
    if any(key == REQUEST_ID for key, _ in error.trailing_metadata() or ()):
        return Health(True, False, error.details() or error.code().name)
    # refused because max_concurrent calls are running, or not answered in time
    if error.code() in {_Code.RESOURCE_EXHAUSTED, _Code.DEADLINE_EXCEEDED} and age < patience:
        message = f"busy: every thread serves a call; the last one ended {age:.0f} s ago"
        return Health(True, False, message)
    return Health(False, False, error.details() or error.code().name)


class _Threads(futures.ThreadPoolExecutor):
    """Threads for calls, each started when all others are busy; there is always one."""

    def __init__(self, most: int) -> None:
        super().__init__(most, thread_name_prefix="rpc")
        self.submit(lambda: None).result()

    def _adjust_thread_count(self) -> None:
        """Start a thread if the machine lets one start; otherwise the call waits for one.

        The error would end gRPC's serving loop.
        """
        with contextlib.suppress(RuntimeError):
            super()._adjust_thread_count()


def _finished(workers: futures.ThreadPoolExecutor) -> bool:
    """Return whether the threads end within a second; a thread without a call ends at once."""
    waiter = threading.Thread(target=workers.shutdown, name="last-calls", daemon=True)
    waiter.start()
    waiter.join(timeout=1)
    if waiter.is_alive():
        _log.warning("calls were cut off when stop_grace ended; their callers repeat them")
    return not waiter.is_alive()


def _listen(server: grpc.Server, path: Path) -> None:
    server.add_insecure_port(_target(path))


def _target(socket: Path) -> str:
    return f"unix:{quote(str(socket))}"
