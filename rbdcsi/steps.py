"""The names of steps that change the world, one for the log line and the tests' kill point alike.

A process may die after any of them; the same call again must finish the work.
"""

import os
import signal

import structlog

_log = structlog.get_logger()

# Tests set it to a step's name: the process then dies right after that step, as by power failure.
_KILL_AFTER = os.environ.get("RBDCSI_TEST_KILL_AFTER")


def done(step: str, **facts: object) -> None:
    """Say that a step is complete, with the facts an operator needs to follow it."""
    _log.debug(step, **facts)
    if step == _KILL_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)
