"""Pure: the cost of each call over the number of volumes, as SVG and as a table."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import escape

from bench.document import fill

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 420, 60, 330, 20, 40  # pixels
_COLOURS = ("#4a7fb5", "#b5544a", "#5a9a57", "#8a63a8", "#c08a2e", "#3f8f8f", "#777", "#b04a86")


class Row(Protocol):
    """A kind of call, and its cost by the number of volumes."""

    what: str
    unit: str
    costs: dict[int, float]


def svg(rows: Sequence[Row]) -> str:
    """Return the picture, with both axes logarithmic: a flat line is a cost that does not grow."""
    timed = [row for row in rows if row.unit == "ms"]
    sizes = sorted(timed[0].costs)
    costs = [cost for row in timed for cost in row.costs.values()]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(size: float) -> float:
        span = math.log10(sizes[-1]) - math.log10(sizes[0]) or 1
        return _LEFT + wide * (math.log10(size) - math.log10(sizes[0])) / span

    def y(cost: float) -> float:
        return _TOP + tall * (high - math.log10(cost)) / (high - low)

    parts = []
    for power in range(low, high + 1):
        at = y(10**power)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{at:.0f}" y2="{at:.0f}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 6}" y="{at + 4:.0f}" text-anchor="end">{10**power:g} ms</text>'
        )
    under = _HEIGHT - 20
    parts += [
        f'<text x="{x(size):.0f}" y="{under}" text-anchor="middle">{size:,}</text>'
        for size in sizes
    ]
    for number, (at, row) in enumerate(_labels(timed, y)):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(size):.1f},{y(row.costs[size]):.1f}" for size in sizes)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(
            f'<text x="{_LEFT + wide + 8}" y="{at:.0f}" fill="{colour}">{escape(row.what)}</text>'
        )
    middle = _LEFT + wide // 2
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{body}
<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">volumes in the cluster</text>
</svg>
"""


def _labels(rows: Sequence[Row], y: Any) -> list[tuple[float, Row]]:
    """Return the rows with the heights of their names, which do not overlap."""
    last = -math.inf
    placed = []
    for row in sorted(rows, key=lambda row: float(y(row.costs[max(row.costs)]))):
        last = max(last + 15, float(y(row.costs[max(row.costs)])) + 4)
        placed.append((last, row))
    return placed


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def publish(rows: Sequence[Row], facts: Mapping[str, Any], document: Path) -> None:
    """Put the figures between their markers in the document, and the picture beside it."""
    sizes = sorted(rows[0].costs)
    table = (
        f"| | {' | '.join(f'{size:,} volumes' for size in sizes)} |",
        f"| --- |{' ---: |' * len(sizes)}",
        *(
            f"| {row.what} | "
            + " | ".join(f"{_amount(row.costs[size])} {row.unit}" for size in sizes)
            + " |"
            for row in rows
        ),
    )
    fill(document, facts, table)
    document.with_suffix(".svg").write_text(svg(rows))
