"""Turns: so many threads at a time do something with one object; others wait, by their deadline."""

import contextlib
import threading
from collections.abc import Hashable, Iterator

from rbdcsi import errors
from rbdcsi.runtime import deadlines

_LOOK_SECONDS = 60.0  # a thread without a deadline waits again


class _Object:
    def __init__(self, mutex: threading.Lock) -> None:
        self.taken = 0
        self.waiting = 0
        self.freed = threading.Condition(mutex)


class Turns:
    """Turns by object; an object that no thread works with takes no memory."""

    def __init__(self, at_once: int) -> None:
        """Let `at_once` threads work with the same object."""
        self._at_once = at_once
        self._mutex = threading.Lock()
        self._objects: dict[Hashable, _Object] = {}

    @contextlib.contextmanager
    def take(self, key: Hashable, waiting_for: str) -> Iterator[None]:
        """Have a turn for the body; wait for it if all are taken.

        Args:
            key: the object.
            waiting_for: the end of a sentence that says why the caller waits.

        Raises:
            DeadlineExceeded: the caller's deadline passed before it had its turn.
        """
        self._begin(key, waiting_for)
        try:
            yield
        finally:
            self._end(key)

    def is_wanted(self, key: Hashable) -> bool:
        """Return whether a thread waits for a turn at the object."""
        with self._mutex:
            return key in self._objects and self._objects[key].waiting > 0

    def _begin(self, key: Hashable, waiting_for: str) -> None:
        with self._mutex:
            at = self._objects.setdefault(key, _Object(self._mutex))
            at.waiting += 1
            try:
                while at.taken >= self._at_once:
                    at.freed.wait(deadlines.remaining(_LOOK_SECONDS))
                at.taken += 1
            except errors.DeadlineExceeded as error:
                at.freed.notify()  # a notification may have come at that moment
                error.add_note(f"it waited for {waiting_for}")
                raise
            finally:
                at.waiting -= 1
                self._forget_if_free(key, at)

    def _end(self, key: Hashable) -> None:
        with self._mutex:
            at = self._objects[key]
            at.taken -= 1
            at.freed.notify()
            self._forget_if_free(key, at)

    def _forget_if_free(self, key: Hashable, at: _Object) -> None:
        if not at.taken and not at.waiting:
            del self._objects[key]
