"""The log of one test."""

import io

import pytest

from rbdcsi.telemetry import logs


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    return stream
