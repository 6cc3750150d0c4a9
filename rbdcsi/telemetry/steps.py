"""The names of steps that change the world: one for log line, metric and tests' kill point alike.

A process may die after any of them; the same call again must finish the work.
"""

import contextlib
import contextvars
import os
import signal
import time
from collections.abc import Iterator

import structlog

from rbdcsi.telemetry import metrics

_log = structlog.get_logger()

_last: contextvars.ContextVar[float | None] = contextvars.ContextVar("last step", default=None)

# Tests set it to a step's name: the process then dies right after that step, as by power failure.
_KILL_AFTER = os.environ.get("RBDCSI_TEST_KILL_AFTER")


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Measure the body's steps: each from the one before it, the first from here."""
    token = _last.set(time.perf_counter())
    try:
        yield
    finally:
        _last.reset(token)


def done(step: str, **facts: object) -> None:
    """Say that a step is complete, with the facts an operator needs to follow it."""
    now, last = time.perf_counter(), _last.get()
    if last is not None:
        metrics.STEP_SECONDS.labels(step).observe(now - last)
        _last.set(now)
    _log.debug(step, **facts)
    if step == _KILL_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)
