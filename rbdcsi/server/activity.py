"""When a call ended last: it tells a driver that is busy from one that hangs."""

import time


class Progress:
    """Shared by all threads: a float is replaced as a whole."""

    def __init__(self) -> None:
        """Begin with the present, as if a call had just ended."""
        self._last = time.monotonic()

    def made(self) -> None:
        """Take note that a call has ended now."""
        self._last = time.monotonic()

    def age(self) -> float:
        """Return the seconds since then."""
        return time.monotonic() - self._last
