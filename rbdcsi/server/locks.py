"""Locks by key inside this process: who comes second is refused at once, nobody waits.

A lock belongs to the call and ends with it. The one exception: while a child that could not be
killed (in the kernel's D state) still works on the object, the object stays refused; the thread is
free. Between processes exclusion is the business of the records in Ceph.
"""

import contextlib
import threading
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from rbdcsi import errors


class Child(Protocol):
    """A child process, as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None:
        """Return None while the child lives."""


@dataclass(frozen=True)
class _Holding:
    what: str
    since: float
    left: tuple[tuple[Child, str], ...] = ()  # children of an ended call, what was told of each

    def stuck(self) -> tuple[Child, str] | None:
        """Find a child that still lives."""
        return next(((child, told) for child, told in self.left if child.poll() is None), None)

    def refusal(self) -> errors.Busy:
        age = time.monotonic() - self.since
        stuck = self.stuck()
        if stuck is None:
            return errors.Busy(f"{self.what} has run for {age:.1f} s; repeat the call after it")
        child, told = stuck
        return errors.Busy(
            f"{self.what} began {age:.1f} s ago and its child {child.pid} is still there ({told}); "
            "the call can be served when that child is gone"
        )


class KeyedLocks:
    """One lock a key; keys cost nothing while nobody holds them."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held: dict[Hashable, _Holding] = {}

    @contextlib.contextmanager
    def hold(self, key: Hashable, what: str) -> Iterator[None]:
        """Hold `key` for the body; `what` names the operation and its object to who is refused.

        An error of the body that carries a living child in `process` (or was caused by one that
        does) leaves the key held until the child is gone.

        Raises:
            Busy: somebody holds the key; the message says who, since when.
        """
        holding = _Holding(what, time.monotonic())
        self._take(key, holding)
        try:
            yield
        except BaseException as error:
            holding = replace(holding, left=tuple(_children(error)))
            raise
        finally:
            self._end(key, holding)

    def _take(self, key: Hashable, holding: _Holding) -> None:
        with self._mutex:
            held = self._held.get(key)
            if held and (not held.left or held.stuck()):
                raise held.refusal()
            self._held[key] = holding

    def _end(self, key: Hashable, holding: _Holding) -> None:
        with self._mutex:
            if holding.stuck():
                self._held[key] = holding
            else:
                del self._held[key]


def _children(error: BaseException | None) -> Iterator[tuple[Child, str]]:
    """Find the children that an error and its causes left behind."""
    while error is not None:
        child: Child | None = getattr(error, "process", None)
        if child is not None:
            yield child, str(error)
        error = error.__cause__ or error.__context__
