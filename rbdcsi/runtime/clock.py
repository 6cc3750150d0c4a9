"""The time as records have it: for people to read; no decision depends on it."""

from datetime import UTC, datetime


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
