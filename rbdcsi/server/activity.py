"""When a call last ended: it tells a driver that is busy from one that hangs."""

import time


class Activity:
    """Shared by all threads without a lock: a float is replaced as a whole."""

    def __init__(self) -> None:
        """Start as if a call had ended just now."""
        self._last_end = time.monotonic()

    def call_ended(self) -> None:
        """Record that a call ended now."""
        self._last_end = time.monotonic()

    def age(self) -> float:
        """Return the seconds since a call last ended."""
        return time.monotonic() - self._last_end
