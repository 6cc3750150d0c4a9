"""Pure: the time of each round over the rounds, as SVG and as a table of tenths."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench.document import fill

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 360, 60, 20, 80, 40  # pixels
_COLOURS = ("#4a7fb5", "#b5544a", "#5a9a57")
_POINTS = 100  # of each line; each is the median of the rounds in between


def svg(times: Mapping[str, Sequence[float]]) -> str:
    """Return the picture: a flat line is a round that does not get slower.

    Args:
        times: seconds of each round, by what it is.
    """
    lines = {name: _medians(seconds) for name, seconds in times.items()}
    most = max(max(points) for points in lines.values()) * 1.1
    rounds = max(len(seconds) for seconds in times.values())
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = []
    for quarter in range(5):
        y, value = _TOP + tall * (1 - quarter / 4), most * quarter / 4
        parts += [
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{value * 1000:.0f} ms</text>',
            f'<text x="{_LEFT + wide * quarter / 4:.0f}" y="{_HEIGHT - 20}" text-anchor="middle">'
            f"{rounds * quarter // 4:,}</text>",
        ]
    for number, ((name, points), colour) in enumerate(zip(lines.items(), _COLOURS, strict=False)):
        steps = max(1, len(points) - 1)
        path = " ".join(
            f"{_LEFT + wide * at / steps:.1f},{_TOP + tall * (1 - value / most):.1f}"
            for at, value in enumerate(points)
        )
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_LEFT}" y="{20 + 20 * number}" fill="{colour}">{escape(name)}</text>',
        ]
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{body}
<text x="{_LEFT + wide // 2}" y="{_HEIGHT - 4}" text-anchor="middle">rounds</text>
</svg>
"""


def table(times: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the medians of the first, the middle and the last tenth of the rounds."""
    rows = [
        "| a round | rounds | first tenth | in the middle | last tenth |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, seconds in times.items():
        tenth, middle = max(1, len(seconds) // 10), len(seconds) // 2
        parts = (seconds[:tenth], seconds[middle : middle + tenth], seconds[-tenth:])
        cells = (f"{statistics.median(part) * 1000:.0f} ms" for part in parts)
        rows.append(f"| {name} | {len(seconds):,} | {' | '.join(cells)} |")
    return rows


def publish(times: Mapping[str, Sequence[float]], facts: Mapping[str, Any], document: Path) -> None:
    """Put the table between its markers in the document, and the picture beside it."""
    document.with_suffix(".svg").write_text(svg(times))
    fill(document, facts, table(times))


def _medians(seconds: Sequence[float]) -> list[float]:
    size = max(1, len(seconds) // _POINTS)
    return [statistics.median(seconds[at : at + size]) for at in range(0, len(seconds), size)]
