import io
import json
import logging
import sys
import threading
from typing import Any

import pytest
import structlog

from rbdcsi.config.secret import Secret
from rbdcsi.telemetry import logs


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_facts_of_the_call() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("mapped", device="/dev/rbd0")
        structlog.get_logger().debug("too much")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "mapped",
        "level": "info",
        "request_id": "r1",
        "device": "/dev/rbd0",
    }


def test_an_error_is_told_in_fields_without_a_traceback() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    try:
        int("x")
    except ValueError as error:
        error.add_note("undo failed as well")
        structlog.get_logger().exception("broke")
    (line,) = lines(stream)
    assert line["error_type"] == "ValueError"
    assert line["error"].endswith("'x'; undo failed as well")
    assert line["where"].startswith("test_logs.py:")
    assert "Traceback" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_errors_of_libraries_and_threads_come_in_the_same_form(form: str) -> None:
    stream = io.StringIO()
    logs.configure(form, "info", stream)
    logging.getLogger("grpc._server").info("noise")
    try:
        {"a": 1}["k"]
    except KeyError:
        logging.getLogger("grpc._server").exception("Exception calling application")
    thread = threading.Thread(target=lambda: 1 / 0, name="sweeper")
    thread.start()
    thread.join()
    sys.excepthook(OSError, OSError("last words"), None)
    text = stream.getvalue()
    assert len(text.splitlines()) == 3
    assert "Traceback" not in text
    for word in ("grpc._server", "KeyError", "sweeper", "ZeroDivisionError", "last words"):
        assert word in text


def test_a_secret_shows_as_stars() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    structlog.get_logger().info("connect", key=Secret("hidden"), all=[Secret("hidden")])
    (line,) = lines(stream)
    assert line["key"] == "***"
    assert "hidden" not in stream.getvalue()
