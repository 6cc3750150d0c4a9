"""What a benchmark gives: rounds of samples and a goal, or one figure and a goal."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.samples import Round

Call = Callable[[int], float]  # does it for the n-th time with fresh names; returns seconds


@dataclass(frozen=True)
class Goal:
    """Bounds of the ratio, or of the figure: at most, at least, or both."""

    most: float | None = None
    least: float | None = None

    @property
    def bounds(self) -> tuple[float, ...]:
        """The bounds that there are, the lower one first."""
        return tuple(bound for bound in (self.least, self.most) if bound is not None)

    def met(self, value: float) -> bool:
        """Tell whether the value keeps the bounds."""
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is None:
            return f"≤ {self.most:g}"
        return f"≥ {self.least:g}" if self.most is None else f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Comparison:
    """The driver beside the floor. Samples are in `unit`, usually seconds."""

    metric: str
    what: str
    floor: str
    rounds: Sequence[Round]
    goal: Goal | None = None
    unit: str = "s"

    def raw(self) -> dict[str, Any]:
        """Return everything, for the file of raw samples."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Figure:
    """One number that has no floor."""

    metric: str
    what: str
    value: float
    unit: str
    goal: Goal | None = None

    def raw(self) -> dict[str, Any]:
        """Return everything, for the file of raw samples."""
        return dataclasses.asdict(self)


Result = Comparison | Figure


def from_raw(raw: Mapping[str, Any]) -> Result:
    """Return the result whose `raw` went through JSON."""
    goal = Goal(**raw["goal"]) if raw["goal"] else None
    if "rounds" not in raw:
        return Figure(**{**raw, "goal": goal})
    rounds = [Round(tuple(each["driver"]), tuple(each["floor"])) for each in raw["rounds"]]
    return Comparison(**{**raw, "rounds": rounds, "goal": goal})


def alternate(driver: Call, floor: Call, rounds: int, warmups: int = 0) -> list[Round]:
    """Do both in turn, so that both see the same noise; the first `warmups` rounds are dropped.

    Each floor follows a driver's turn: of two in a row, the second is faster for being warm.
    """
    done = []
    for at in range(0, (rounds + warmups) * 4, 4):
        one, two, three, four = driver(at), floor(at + 1), driver(at + 2), floor(at + 3)
        done.append(Round((one, three), (two, four)))
    return done[warmups:]
