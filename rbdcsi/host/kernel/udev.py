"""Waits for block devices by the kernel's own events, as containers have no udevd."""

import time
from collections.abc import Callable

import pyudev

from rbdcsi.runtime import deadlines

_CHECK_SECONDS = 1.0  # the kernel drops events for a reader whose buffer is full


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Wait until the condition is true; return whether it became true in time.

    Args:
        condition: called once after the driver listens for events, so that it misses none, then at
            each event of a block device and at least once a second.
        seconds: the longest time to wait; the caller's own deadline shortens this.
    """
    ends_at = time.monotonic() + deadlines.remaining(seconds)
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("block")
    monitor.start()
    while not condition():
        left = ends_at - time.monotonic()
        if left <= 0:
            return False
        monitor.poll(timeout=min(left, _CHECK_SECONDS))
    return True
