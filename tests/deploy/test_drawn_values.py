"""The values that `chart_values` draws: helm takes them all, and the odd ones are among them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from e2e.release import manifests
from tests.kubernetes import chart_values

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

# Without shrinking: helm's message names the value.
SETTINGS = hypothesis.settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@SETTINGS
@hypothesis.given(chart_values.values(), chart_values.releases())
def test_helm_takes_every_drawn_value(
    tmp_path: Path, values: chart_values.Values, release: str
) -> None:
    manifests.template("--values", str(chart_values.file(tmp_path, values)), release=release)


def items(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values, those of inner maps, too."""
    if isinstance(values, dict):
        yield from values.items()
    for each in values.values() if isinstance(values, dict) else values:
        if isinstance(each, dict | list):
            yield from items(each)


@pytest.mark.parametrize(
    "is_odd",
    [
        lambda _, value: value is None,
        lambda key, value: "/" in key and value is not None,
    ],
    ids=["null in place of a default", "name that only a pattern of the schema allows"],
)
def test_odd_values_are_drawn(is_odd: Callable[[str, Any], bool]) -> None:
    hypothesis.find(
        chart_values.values(),
        lambda values: any(is_odd(key, value) for key, value in items(values)),
        settings=hypothesis.settings(SETTINGS, max_examples=100),
    )
