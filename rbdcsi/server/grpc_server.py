"""The gRPC server on its unix socket: threads, limits, orderly stop, and its own Probe asked."""

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
from rbdcsi.server.interceptors.layered import Layered
from rbdcsi.server.locks import KeyedLocks

_log = structlog.get_logger()

LONGEST_CALL = 300.0  # seconds for a call without a deadline; the sidecars' and kubelet's are less
PROBE_SECONDS = 5.0


def serve(
    options: Options,
    add_services: Callable[[grpc.Server], None],
    stopping: threading.Event,
    locks: KeyedLocks,
    activity: Activity,
) -> bool:
    """Serve until `stopping` is set, then refuse new calls and finish those that run.

    Args:
        options: socket, limits and times.
        add_services: adds the CSI services to the server.
        stopping: an event that ends the server.
        locks: held by calls that change a volume.
        activity: records each call's end; `probe` reads it.

    Returns:
        Whether every call was over within `stop_grace`; if not, threads of this process still run.

    Raises:
        Refused: the socket cannot be had; the message says why and what to do.
    """
    workers = _started_workers(options.workers)
    layers = interceptors.standard(options.node_id, LONGEST_CALL, locks, activity)
    server = grpc.server(
        workers,
        interceptors=[Layered(layers)],
        maximum_concurrent_rpcs=options.max_concurrent,
    )
    add_services(server)
    with unix_socket.published(options.socket, lambda path: _listen(server, path)):
        server.start()
        _log.info("serving", socket=str(options.socket))
        stopping.wait()
        _log.info("stopping", grace_seconds=options.stop_grace)
        server.stop(options.stop_grace).wait()
    return _finished(workers)


def probe(
    socket: Path,
    activity: Activity,
    seconds: float = PROBE_SECONDS,
    patience: float = LONGEST_CALL,
) -> Health:
    """Ask the driver behind `socket` for its health, as the kubelet's probes should see it.

    While every worker serves a slow call, a Probe waits like any other: to be busy is no reason to
    be killed. But no call may last longer than `patience`, so if none has ended for so long, all
    of them hang.

    Args:
        socket: the driver's own.
        activity: the one that its server records calls in.
        seconds: that it has to answer.
        patience: seconds.
    """
    with grpc.insecure_channel(_target(socket)) as channel:
        try:
            answer = csi_pb2_grpc.IdentityStub(channel).Probe(
                csi_pb2.ProbeRequest(), timeout=seconds
            )
        except grpc.RpcError as error:  # it is a grpc.Call, too
            age = activity.age()
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and age < patience:
                words = f"busy: every worker serves a call; the last one ended {age:.0f} s ago"
                return Health(True, False, words)
            return _failed_probe(error)
    ready = answer.ready.value or not answer.HasField("ready")  # CSI: absent means ready
    return Health(True, ready, "ready" if ready else "not ready yet: see the driver's log")


def _failed_probe(error: Any) -> Health:
    """Tell a driver that answered with an error, and so lives, from one that did not answer."""
    answered = any(key == REQUEST_ID for key, _ in error.trailing_metadata() or ())
    busy = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # max_concurrent is reached
    return Health(answered or busy, False, error.details() or error.code().name)


def _started_workers(count: int) -> futures.ThreadPoolExecutor:
    """Start all threads now: gRPC's serving loop would die of a thread that cannot be had later."""
    workers = futures.ThreadPoolExecutor(count, thread_name_prefix="rpc")
    all_started = threading.Barrier(count + 1)
    for _ in range(count):
        workers.submit(all_started.wait)
    all_started.wait()
    return workers


def _finished(workers: futures.ThreadPoolExecutor) -> bool:
    """Whether the threads end; those whose call is over do so at once."""
    waiter = threading.Thread(target=workers.shutdown, name="last-calls", daemon=True)
    waiter.start()
    waiter.join(timeout=1)
    if waiter.is_alive():
        _log.warning("calls were cut off: repeating them finishes their work")
    return not waiter.is_alive()


def _listen(server: grpc.Server, path: Path) -> None:
    server.add_insecure_port(_target(path))


def _target(socket: Path) -> str:
    return f"unix:{quote(str(socket))}"
