"""Pure: a bar for each ratio, as text and as SVG."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench import samples
from bench.metric import Comparison, Goal, Result
from bench.samples import Ratio

_WIDTH = 24  # characters of the text's bar
_ROW, _LEFT, _SCALE = 22, 420, 110  # pixels: a row's height, the names' width, a ratio of 1
_LONGEST = 4.0  # ratios above are cut off


def bar(found: Ratio, goal: Goal | None) -> str:
    """Return the ratio as a bar of blocks with the goal as a stroke."""
    per_one = _WIDTH / _LONGEST
    cells = ["█" if at < found.median * per_one else " " for at in range(_WIDTH)]
    for bound in goal.bounds if goal else ():
        if bound < _LONGEST:
            cells[int(bound * per_one)] = "|"
    return "".join(cells).rstrip()


def svg(results: Sequence[Result]) -> str:
    """Return the picture: bars with their intervals, the goal as a red line."""
    compared = [result for result in results if isinstance(result, Comparison)]
    height, width = (len(compared) + 1) * _ROW, _LEFT + int(_LONGEST * _SCALE) + 60
    rows = "\n".join(_svg_row(result, at) for at, result in enumerate(compared))
    one = _LEFT + _SCALE
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<line x1="{one}" x2="{one}" y1="0" y2="{height - _ROW}" stroke="#999" stroke-dasharray="3"/>
{rows}
<text x="{one}" y="{height - 6}" text-anchor="middle">1 = the floor</text>
</svg>
"""


def _svg_row(result: Comparison, at: int) -> str:
    found, top = samples.ratio(result.rounds), at * _ROW
    middle = top + _ROW // 2
    parts = [
        f'<text x="4" y="{middle + 4}">{escape(f"{result.metric} {result.what}")}</text>',
        f'<rect x="{_LEFT}" y="{top + 4}" width="{_pixels(found.median)}" height="{_ROW - 8}" '
        'fill="#4a7fb5"/>',
        f'<line x1="{_LEFT + _pixels(found.low)}" x2="{_LEFT + _pixels(found.high)}" '
        f'y1="{middle}" y2="{middle}" stroke="black"/>',
        f'<text x="{_LEFT + _pixels(found.median) + 6}" y="{middle + 4}">{found.median:.2f}</text>',
    ]
    for bound in result.goal.bounds if result.goal else ():
        x = _LEFT + _pixels(bound)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{top + 2}" y2="{top + _ROW - 2}" stroke="red" '
            'stroke-width="2"/>'
        )
    return "\n".join(parts)


def _pixels(ratio: float) -> int:
    return round(min(ratio, _LONGEST) * _SCALE)
