"""Pure: what was measured, in pairs, and the ratio that follows, with its interval."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 2000
_LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A median ratio with its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Round:
    """One iteration, in the order driver, floor, driver, floor."""

    driver: tuple[float, float]
    floor: tuple[float, float]


def ratio(rounds: Sequence[Round]) -> Ratio:
    """Return driver over floor: noise that lasts longer than a round is in both."""
    return _bootstrap([sum(each.driver) / sum(each.floor) for each in rounds])


def control(rounds: Sequence[Round]) -> Ratio:
    """Return floor over floor, which is 1 but for noise."""
    return _bootstrap([each.floor[0] / each.floor[1] for each in rounds])


def _bootstrap(values: Sequence[float]) -> Ratio:
    chance = random.Random(0)  # noqa: S311  the same samples give the same interval
    medians = sorted(
        statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES)
    )
    outside = int(_RESAMPLES * (1 - _LEVEL) / 2)
    return Ratio(statistics.median(values), medians[outside], medians[-1 - outside])
