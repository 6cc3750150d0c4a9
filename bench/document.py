"""Puts the figures of a run between their markers in a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def fill(document: Path, facts: Mapping[str, Any], table: Sequence[str], *, kind: str = "") -> None:
    """Replace the figures in the document.

    Args:
        document: has the markers.
        facts: what the figures depend on.
        table: lines of Markdown.
        kind: of the run, as in its markers; "" or "-krbd".
    """
    begin, end = f"<!-- figures{kind} -->\n", f"<!-- end of figures{kind} -->"
    before, rest = document.read_text().split(begin, 1)
    after = rest.split(end, 1)[1]
    environment = ", ".join(f"{name} {value}" for name, value in facts.items())
    figures = "\n".join((f"{environment}.", "", *table, ""))
    document.write_text(before + begin + figures + end + after)
