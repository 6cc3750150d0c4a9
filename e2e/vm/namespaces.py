"""Network namespaces that exist as long as a descriptor of them: none outlives its process.

Python's `os` has `unshare` and `setns` from 3.12 on only.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_CLONE_NEWNET = 0x40000000  # <sched.h>
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def create() -> int:
    """Return a descriptor of a new network namespace."""

    def make() -> int:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_own_thread(make)


def inside(namespace: int, work: Callable[[], _Result]) -> _Result:
    """Return what `work` returns, called in a network namespace given by its descriptor."""

    def enter() -> _Result:
        _check(_libc.setns(namespace, _CLONE_NEWNET), "setns")
        return work()

    return _in_own_thread(enter)


def _in_own_thread(work: Callable[[], _Result]) -> _Result:
    """Call it in a thread that ends: a thread's namespace is its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _check(code: int, call: str) -> None:
    if code:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
