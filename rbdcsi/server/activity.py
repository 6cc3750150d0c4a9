"""Records when a call last ended; by it, a health check tells a busy driver from a hanging one."""

import time


class Activity:
    """The time when a call last ended. Threads need no lock: Python replaces a float as a whole."""

    def __init__(self) -> None:
        """Start as if a call had ended just now."""
        self._last_end = time.monotonic()

    def call_ended(self) -> None:
        """Record that a call ended now."""
        self._last_end = time.monotonic()

    def age(self) -> float:
        """Return the seconds since a call last ended."""
        return time.monotonic() - self._last_end
