"""Work that a thread of its own repeats for as long as the process serves."""

import threading
from collections.abc import Callable

import structlog

_log = structlog.get_logger()

_RETRY_SECONDS = 60.0  # after an error


class PeriodicTask:
    """Runs the work once at the start, then again after each pause; an error does not end it."""

    def __init__(self, name: str, work: Callable[[], float]) -> None:
        """Take the thread's name and its work, which returns the seconds until its next run."""
        self._name = name
        self._work = work
        self._stopping = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Run the work soon."""
        self._due.set()

    def stop(self) -> None:
        """Start no further run; do not wait for a run that has begun."""
        self._stopping.set()
        self._due.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.wait(self._once())
            self._due.clear()

    def _once(self) -> float:
        try:
            return self._work()
        except Exception as error:  # noqa: BLE001  the thread must go on
            _log.error("background work failed, to be repeated", task=self._name, exc_info=error)
            return _RETRY_SECONDS
