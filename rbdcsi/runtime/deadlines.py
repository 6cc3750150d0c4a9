"""The deadline of the current call, which every layer can read without an argument for it.

`server/interceptors/deadline.py` sets it from the RPC. `ceph/` and `host/` call `remaining` before
each step that can block.
"""

import contextlib
import contextvars
import time
from collections.abc import Iterator

from rbdcsi import errors

_FINISHING_SECONDS = 120.0

_ends_at: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Set the body's deadline to `seconds` from now; None means no deadline."""
    token = _ends_at.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def finishing() -> contextlib.AbstractContextManager[None]:
    """Let the body go on for two minutes, also after the caller's deadline.

    Use it for work that a repeated call cannot go on with: the repeated call finds the result.
    """
    return within(_FINISHING_SECONDS)


def remaining(at_most: float) -> float:
    """Return the seconds that are left for the next step, at most `at_most`.

    Raises:
        DeadlineExceeded: the caller's time has run out.
    """
    ends_at = _ends_at.get()
    if ends_at is None:
        return at_most
    seconds = ends_at - time.monotonic()
    if seconds <= 0:
        raise errors.DeadlineExceeded(
            "the caller's deadline passed before the call's next step; finished steps are kept, "
            "and the same call continues after them"
        )
    return min(seconds, at_most)
