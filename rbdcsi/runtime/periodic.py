"""Work that is done again and again in a thread of its own, for as long as the process serves."""

import threading
from collections.abc import Callable


class Repeated:
    """Does the work at once, and then after each pause."""

    def __init__(self, name: str, work: Callable[[], float]) -> None:
        """Name the thread, and what it does; `work` returns the seconds until the next time."""
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do it no more; what is under way is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._work())
