"""Verbs that break things on purpose; whatever they stop goes on again at the end of the body."""

import contextlib
import os
import signal
from collections.abc import Iterator

from e2e.clusters import Cluster
from rbdcsi.runtime.readable import wait_until_readable


def kill9(pid: int, timeout: float = 10) -> None:
    """Kill the process as a crash would, and return when it is gone (or a zombie).

    Args:
        pid: a process that the test started.
        timeout: seconds; a process in uninterruptible sleep outlives its signal.

    Raises:
        TimeoutError: it still exists.
    """
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not wait_until_readable(handle, timeout):
                raise TimeoutError(f"process {pid} is still there {timeout:g} s after its kill")
        finally:
            os.close(handle)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop the process in its tracks during the body: it neither works nor dies."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen_osd(cluster: Cluster) -> Iterator[None]:
    """Let all I/O of the cluster hang during the body."""
    cluster.freeze_osd()
    try:
        yield
    finally:
        cluster.thaw_osd()


@contextlib.contextmanager
def frozen_mon(cluster: Cluster) -> Iterator[None]:
    """Let monitor commands and new connections hang during the body."""
    cluster.freeze_mon()
    try:
        yield
    finally:
        cluster.thaw_mon()


@contextlib.contextmanager
def stopped_osd(cluster: Cluster) -> Iterator[None]:
    """Run the body without any OSD; the monitor knows that it is down."""
    cluster.stop_osd()
    try:
        yield
    finally:
        cluster.start_osd()


@contextlib.contextmanager
def full(cluster: Cluster, pool: str | None = None) -> Iterator[None]:
    """Let the pool (by quota), or without one the whole cluster, refuse writes during the body."""
    try:
        cluster.set_full(pool)
        yield
    finally:
        cluster.clear_full(pool)
