"""What a controller shows to Prometheus over HTTP."""

import re
from collections.abc import Callable

from e2e.clusters import commands

Scrape = Callable[[str], str]  # the name of a page to its text


def wait_for(get: Scrape, pattern: str) -> None:
    """Return when the metrics match the pattern."""
    commands.wait_until(lambda: bool(re.search(pattern, get("metrics"))), f"metrics: {pattern}")
