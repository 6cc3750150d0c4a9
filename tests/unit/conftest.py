"""What every unit test leaves as it found it: logging, the hooks of Python, and signal handlers."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    on_signal = [signal.getsignal(number) for number in SIGNALS]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    for number, handler in zip(SIGNALS, on_signal, strict=True):
        signal.signal(number, handler)
    structlog.reset_defaults()
