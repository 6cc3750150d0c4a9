"""Waiting for block devices by the kernel's own events: no udevd is needed (containers)."""

import time
from collections.abc import Callable

import pyudev

from rbdcsi.runtime import deadlines

_LOOK_AGAIN_SECONDS = 1.0  # the kernel drops events for a reader whose buffer is full


def wait_until(is_so: Callable[[], bool], *, seconds: float) -> bool:
    """Look again at each event of a block device; return whether it became so in time.

    Args:
        is_so: what is waited for; asked first when events are being listened to already, so that
            none is missed in between.
        seconds: how long at most; the caller's own deadline shortens this.
    """
    ends_at = time.monotonic() + deadlines.remaining(seconds)
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.filter_by("block")
    monitor.start()
    while not is_so():
        left = ends_at - time.monotonic()
        if left <= 0:
            return False
        monitor.poll(timeout=min(left, _LOOK_AGAIN_SECONDS))
    return True
