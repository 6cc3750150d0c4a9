"""Structured logs on stderr: one line an event, as JSON or for people, never a traceback.

The project logs through structlog; what libraries (grpc among them) say through `logging` comes out
in the same form. Facts of a call are bound with `structlog.contextvars` by the interceptor.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_FRAMES = 4


def configure(form: str, level: str, stream: TextIO | None = None) -> None:
    """Set up logging for the whole program.

    Args:
        form: "json" for machines, "text" for people.
        level: "debug", "info", "warning" or "error": what is less is dropped.
        stream: where lines go; stderr if not given.
    """
    stream = stream or sys.stderr
    least = logging.getLevelNamesMapping()[level.upper()]
    enrich: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        exception_to_fields,
    )
    renderer = _renderer(form, stream)
    structlog.configure(
        processors=[*enrich, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _adopt_foreign(enrich, renderer, stream, max(least, logging.WARNING))
    _adopt_uncaught()


def exception_to_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by what it was, what it said, and where (the innermost frames last)."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exception()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__qualname__
        event["error"] = "; ".join([str(error), *getattr(error, "__notes__", ())])
        event["where"] = _where(error.__traceback__)
    return event


def _where(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return " > ".join(f"{Path(f.filename).name}:{f.lineno}:{f.name}" for f in frames)


def _renderer(form: str, stream: TextIO) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(default=repr)
    return structlog.dev.ConsoleRenderer(colors=stream.isatty())


def _adopt_foreign(
    enrich: Sequence[Processor], renderer: Processor, stream: TextIO, least: int
) -> None:
    """Give what libraries log the same form; below a warning they are only noise."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *enrich],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=least, handlers=[handler], force=True)


def _adopt_uncaught() -> None:
    """Log what ends a thread or the program; Python would print a traceback."""
    log = structlog.get_logger()

    def of_thread(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "unknown"
        log.error("a thread ended with an error", thread=name, exc_info=failure.exc_value)

    threading.excepthook = of_thread
    sys.excepthook = lambda _type, error, _trace: log.error("ends with an error", exc_info=error)
