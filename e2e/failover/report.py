"""The figures of runs: a line, a table and a picture beside the floor."""

import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import picture, samples
from bench.metric import Comparison, Goal
from bench.samples import Round
from e2e.failover.node import Fault
from e2e.failover.story import Outcome

GOAL = Goal(most=1.5)
DOCUMENT = Path(__file__).parents[2] / "docs/reports/failover.md"
_RAW = Path(__file__).parents[2] / "build/failover"
_HEAD = (
    "| the node was | moves | records acknowledged, all read | late writes refused "
    "| seconds, median | worst | by hand, median | worst | ratio [95 %] | clean after, worst |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def line(mapper: str, outcome: Outcome) -> str:
    """Return one outcome as a line of a log."""
    return (
        f"fail-over, {mapper}, {outcome.fault.value}: {outcome.seconds:.2f} s, by hand "
        f"{outcome.by_hand:.2f} s, ratio {outcome.seconds / outcome.by_hand:.2f}; "
        f"{outcome.acknowledged} records, {outcome.refused} late writes refused, "
        f"clean after {outcome.clean_after:.1f} s"
    )


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines of a table with a row for each fault."""
    return [*_HEAD, *(_row(fault, of_fault) for fault, of_fault in _by_fault(outcomes))]


def save(mapper: str, outcomes: Sequence[Outcome]) -> Path:
    """Write the raw outcomes, and return the file."""
    _RAW.mkdir(parents=True, exist_ok=True)
    file = _RAW / f"{mapper}.json"
    raw = [dataclasses.asdict(outcome) for outcome in outcomes]
    file.write_text(json.dumps(raw, indent=1, default=lambda fault: fault.value))
    return file


def publish(mapper: str, outcomes: Sequence[Outcome], facts: Mapping[str, Any]) -> None:
    """Put the table between the mapper's markers in the document, and the picture beside it.

    Args:
        mapper: of the runs.
        outcomes: of the runs.
        facts: what the figures depend on.
    """
    begin, end = f"<!-- {mapper} -->\n", f"<!-- end of {mapper} -->"
    before, rest = DOCUMENT.read_text().split(begin, 1)
    after = rest.split(end, 1)[1]
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    text = "\n".join([f"{told}.", "", *table(outcomes), ""])
    DOCUMENT.write_text(before + begin + text + end + after)
    rows = [_comparison(fault, of_fault) for fault, of_fault in _by_fault(outcomes)]
    DOCUMENT.with_name(f"failover-{mapper}.svg").write_text(picture.svg(rows))


def _by_fault(outcomes: Sequence[Outcome]) -> Iterator[tuple[Fault, Sequence[Outcome]]]:
    for fault in Fault:
        if of_fault := [outcome for outcome in outcomes if outcome.fault is fault]:
            yield fault, of_fault


def _row(fault: Fault, outcomes: Sequence[Outcome]) -> str:
    ratio = samples.ratio(_comparison(fault, outcomes).rounds)
    driver = [outcome.seconds for outcome in outcomes]
    by_hand = [outcome.by_hand for outcome in outcomes]
    cells = (
        fault.value,
        str(len(outcomes)),
        str(sum(outcome.acknowledged for outcome in outcomes)),
        str(sum(outcome.refused for outcome in outcomes)),
        f"{statistics.median(driver):.2f}",
        f"{max(driver):.2f}",
        f"{statistics.median(by_hand):.2f}",
        f"{max(by_hand):.2f}",
        f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
        f"{max(outcome.clean_after for outcome in outcomes):.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def _comparison(fault: Fault, outcomes: Sequence[Outcome]) -> Comparison:
    """Return the outcomes as a benchmark's; each stands for a round of two equal halves."""
    rounds = [
        Round((each.seconds, each.seconds), (each.by_hand, each.by_hand)) for each in outcomes
    ]
    return Comparison("", f"fail-over, the node was {fault.value}", "by hand", rounds, GOAL)
