"""The names of steps that change Ceph or the host, for log lines, metrics and kill points of tests.

The process may die after any step; a repeated call must finish the work.
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

# A test sets this to a step's name, so that the process dies right after that step.
_KILL_AFTER = os.environ.get("RBDCSI_TEST_KILL_AFTER")


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Measure the body's steps: each from the end of the step before it, the first from here."""
    token = _last.set(time.perf_counter())
    try:
        yield
    finally:
        _last.reset(token)


def done(step: str, **facts: object) -> None:
    """Log and measure a finished step, with the facts that an operator needs to follow it."""
    now, last = time.perf_counter(), _last.get()
    if last is not None:
        metrics.STEP_SECONDS.labels(step).observe(now - last)
        _last.set(now)
    _log.debug(step, **facts)
    if step == _KILL_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)
