"""How much time the current call has left, known to every layer without being passed along.

The interceptor sets it from the RPC; adapters ask before each step that can block.
"""

import contextlib
import contextvars
import time
from collections.abc import Iterator

from rbdcsi import errors

_ends_at: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Bound the body to `seconds` from now; None leaves it unbounded."""
    token = _ends_at.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining(at_most: float) -> float:
    """Return the seconds left for the next step, never more than `at_most`.

    Raises:
        DeadlineExceeded: the caller's time has run out.
    """
    ends_at = _ends_at.get()
    if ends_at is None:
        return at_most
    left = ends_at - time.monotonic()
    if left <= 0:
        raise errors.DeadlineExceeded(
            "the caller's deadline passed before the next step; what was done is kept, "
            "the same call again carries on from there"
        )
    return min(left, at_most)
