"""The time as records have it, for people to read; fences and unfinished growths go by it."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def after(seconds: float) -> str:
    """Return the time so many seconds from now, as `now` does."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def age(since: str) -> float:
    """Return how many seconds ago that was, by this machine's clock; `since` is as of `now`."""
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
