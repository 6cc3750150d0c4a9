"""What the run found: a table with a bar for each ratio, and the raw samples."""

import datetime
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import picture, samples
from bench.document import fill
from bench.metric import Comparison, Figure, Result

_ROOT = Path(__file__).parents[1]
_DIRECTORY = _ROOT / "build/bench"
_NOISE = 0.05  # a control that is further from 1 voids its row


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table("", "what", "the floor")
    for name in ("driver p50", "floor p50", "ratio", "floor/floor", "goal"):
        table.add_column(name, justify="right")
    table.add_column("ratio, | is the goal")
    for result in results:
        table.add_row(*row(result))
    Console(width=None if sys.stdout.isatty() else 170).print(table)


def row(result: Result) -> list[str]:
    """Return the cells of one result."""
    if isinstance(result, Figure):
        value = f"{result.value:.3g} {result.unit}"
        return [result.metric, result.what, "", value, "", "", "", _verdict(result), ""]
    found = samples.ratio(result.rounds)
    return [
        result.metric,
        result.what,
        result.floor,
        _amount([value for each in result.rounds for value in each.driver], result.unit),
        _amount([value for each in result.rounds for value in each.floor], result.unit),
        f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]",
        _control(result),
        _verdict(result),
        picture.bar(found, result.goal),
    ]


def save(results: Sequence[Result], facts: Mapping[str, Any], kind: str) -> Path:
    """Write raw samples and where they come from to build/bench, and return the file.

    Args:
        results: of one run.
        facts: what they depend on.
        kind: of the run, as the end of files' names; "" or "-krbd".
    """
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    file = _DIRECTORY / f"samples{kind}.json"
    document = {"environment": facts, "results": [result.raw() for result in results]}
    file.write_text(json.dumps(document, indent=1, default=str))
    (_DIRECTORY / f"ratios{kind}.svg").write_text(picture.svg(results))
    return file


def publish(results: Sequence[Result], facts: Mapping[str, Any], kind: str, document: Path) -> None:
    """Put the figures between their kind's markers in the document, and the picture beside it."""
    table = (
        "| | what | the floor | driver p50 | floor p50 | ratio [95 %] | floor/floor | goal |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row(result)[:-1])} |" for result in results),
    )
    fill(document, facts, table, kind=kind)
    document.with_name(f"benchmarks{kind}.svg").write_text(picture.svg(results))


def environment(store: str) -> dict[str, Any]:
    """Return what the figures depend on; `store` is the OSD's."""
    version = subprocess.run(("ceph", "--version"), capture_output=True, text=True, check=True)
    commit = subprocess.run(
        ("git", "describe", "--always", "--dirty"),
        cwd=_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "Ceph": version.stdout.split()[2],
        "OSD": store,
        "Python": platform.python_version(),
        "kernel": platform.release(),
        "cores": len(_cores()),
    }


def _cores() -> list[str]:
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "processor" in line]


def _amount(values: Sequence[float], unit: str) -> str:
    middle = statistics.median(values)
    return f"{middle * 1000:.2f} ms" if unit == "s" else f"{middle:.0f} {unit}"


def _control(result: Comparison) -> str:
    found = samples.control(result.rounds)
    noisy = found.low > 1 + _NOISE or found.high < 1 - _NOISE
    return f"{found.median:.2f}{' void' if noisy else ''}"


def _verdict(result: Result) -> str:
    if result.goal is None:
        return ""
    value = result.value if isinstance(result, Figure) else samples.ratio(result.rounds).median
    return f"{result.goal} {'met' if result.goal.met(value) else 'MISSED'}"
