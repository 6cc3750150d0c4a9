"""Reads the JSON report of a ginkgo suite: what ran, what failed, what was skipped and why."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import errors

_SKIPPED = {"skipped", "pending"}
_HARMLESS = {"passed", *_SKIPPED}


@dataclass(frozen=True)
class Result:
    """What a suite found: numbers of test cases, the names of those that failed, its output.

    `skips` has the reason of each skip; one that the suite itself has put aside is "pending". What
    was not selected is in no number.
    """

    name: str
    ran: int
    passed: int
    failed: int
    skips: tuple[str, ...]
    failures: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        counts = (
            f"{self.ran} ran, {self.passed} passed, {self.failed} failed, {len(self.skips)} skipped"
        )
        return "\n  failed: ".join([f"{self.name}: {counts}", *self.failures])


def read(name: str, report: Path, log: Path) -> Result:
    """Return what a suite that has ended says of itself.

    Args:
        name: the suite's, for people.
        report: its JSON report.
        log: its output.

    Raises:
        Failed: it ended without having written the report.
    """
    output = log.read_text(errors="replace")
    if not report.exists():
        raise errors.Failed(f"{name} ended without a report; {log} begins: {output[:500]}")
    cases = list(_cases(json.loads(report.read_text())))
    states = Counter(case["State"] for case in cases)
    skips = tuple(_reason(case) for case in cases if case["State"] in _SKIPPED)
    failed = len(cases) - states["passed"] - len(skips)  # panicked, timedout, interrupted, too
    names = tuple(_name(case) for case in cases if case["State"] not in _HARMLESS)
    return Result(name, states["passed"] + failed, states["passed"], failed, skips, names, output)


def _cases(report: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the test cases, and the set-up and clean-up steps around them when they failed."""
    for suite in report:
        for each in suite["SpecReports"] or ():
            is_case = each["LeafNodeType"] == "It" and not _was_left_out(each)
            if is_case or each["State"] not in _HARMLESS:
                yield each


def _was_left_out(case: dict[str, Any]) -> bool:
    """Tell a case that a focus or skip pattern left out: it is skipped without a word."""
    return case["State"] == "skipped" and not case.get("Failure", {}).get("Message")


def _reason(case: dict[str, Any]) -> str:
    return str(case.get("Failure", {}).get("Message") or case["State"])


def _name(case: dict[str, Any]) -> str:
    return " / ".join([*(case["ContainerHierarchyTexts"] or []), case["LeafNodeText"]])
