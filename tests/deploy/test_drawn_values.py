"""The values that `chart_values` draws: helm takes them all, and the odd ones are among them."""

from collections.abc import Callable
from pathlib import Path

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


def reach(condition: Callable[[chart_values.Values], bool]) -> None:
    """Fail unless values are drawn that meet the condition; a part that they lack does not."""

    def meets(values: chart_values.Values) -> bool:
        try:
            return condition(values)
        except KeyError:
            return False

    settings = hypothesis.settings(SETTINGS, max_examples=500)
    hypothesis.find(chart_values.values(), meets, settings=settings)


def test_names_are_drawn_from_the_patterns_of_the_schema() -> None:
    reach(lambda values: any("/" in name for name in values["node"]["podLabels"]))
