"""Locks by key inside this process. A call that wants a taken lock fails at once; it never waits.

A lock ends with the call that took it, with one exception: while a child process of the call still
works on the object, the object stays locked, and the call's thread is free for others.
The records in Ceph exclude other processes.
"""

import contextlib
import threading
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from rbdcsi import errors


@dataclass(frozen=True)
class _Holder:
    operation: str
    since: float
    alive: tuple[errors.ChildAlive, ...] = ()  # set when the call has ended

    def living_child(self) -> errors.ChildAlive | None:
        """Return the error of a child that still lives, None if there is none."""
        return next((error for error in self.alive if error.child.poll() is None), None)

    def refusal(self) -> errors.Busy:
        """Return the error for a call that wants the same lock."""
        age = time.monotonic() - self.since
        error = self.living_child()
        if error is None:
            return errors.Busy(
                f"{self.operation} has run for {age:.1f} s; repeat the call when it has ended"
            )
        return errors.Busy(
            f"{self.operation} began {age:.1f} s ago and its child {error.child.pid} still "
            f"lives ({error}); repeat the call when that child has ended"
        )


class KeyedLocks:
    """One lock for each key; a free lock takes no memory."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holders: dict[Hashable, _Holder] = {}

    @contextlib.contextmanager
    def hold(self, key: Hashable, operation: str) -> Iterator[None]:
        """Hold the lock of `key` for the body.

        If the body raises `ChildAlive`, or an error caused by one, the lock ends only when that
        child has ended.

        Args:
            key: the object that the body changes.
            operation: the operation and the object, for the message of `Busy` to other calls.

        Raises:
            Busy: another call holds the lock; the message names that call and its age.
        """
        holder = _Holder(operation, time.monotonic())
        self._take(key, holder)
        try:
            yield
        except BaseException as error:
            holder = replace(holder, alive=tuple(_living_children(error)))
            raise
        finally:
            self._end(key, holder)

    def _take(self, key: Hashable, holder: _Holder) -> None:
        with self._mutex:
            current = self._holders.get(key)
            if current and (not current.alive or current.living_child()):
                raise current.refusal()
            self._holders[key] = holder

    def _end(self, key: Hashable, holder: _Holder) -> None:
        with self._mutex:
            if holder.living_child():
                self._holders[key] = holder
            else:
                del self._holders[key]


def _living_children(error: BaseException | None) -> Iterator[errors.ChildAlive]:
    """Yield the errors of living children among the error and its causes."""
    while error is not None:
        if isinstance(error, errors.ChildAlive):
            yield error
        error = error.__cause__ or error.__context__
