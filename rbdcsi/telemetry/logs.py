"""Structured logs on stderr: one line for each event, as JSON or text, never a traceback.

The driver logs through structlog. Libraries, such as grpc, log through `logging`; their lines get
the same form. The interceptor binds the facts of a call with `structlog.contextvars`.
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
        level: "debug", "info", "warning" or "error"; lines of a lower level are dropped.
        stream: the output; None is stderr.
    """
    stream = stream or sys.stderr
    lowest_level = logging.getLevelNamesMapping()[level.upper()]
    enrich: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        exception_to_fields,
    )
    renderer = _renderer(form, stream)
    structlog.configure(
        processors=[*enrich, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(lowest_level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _format_library_logs(enrich, renderer, stream, max(lowest_level, logging.WARNING))
    _log_uncaught_errors()


def exception_to_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the error's type, message and innermost frames (innermost last)."""
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


def _format_library_logs(
    enrich: Sequence[Processor], renderer: Processor, stream: TextIO, lowest_level: int
) -> None:
    """Format the lines of libraries as the driver's own; below a warning they are only noise."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *enrich],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=lowest_level, handlers=[handler], force=True)


def _log_uncaught_errors() -> None:
    """Log errors that end a thread or the program; otherwise Python prints a traceback."""
    log = structlog.get_logger()

    def log_thread_error(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "unknown"
        log.error("a thread ended because of an error", thread=name, exc_info=failure.exc_value)

    threading.excepthook = log_thread_error
    sys.excepthook = lambda _type, error, _trace: log.error(
        "the driver ends because of an error", exc_info=error
    )
