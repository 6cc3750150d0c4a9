"""The alert rules, run by Prometheus' own tool over series that are made for them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.release import manifests, prometheus

pytestmark = pytest.mark.timeout(900)  # fetches Prometheus when the cache is cold

RULES = manifests.CHART / "files/alerts.yaml"
CASES = manifests.EVERYTHING.parent / "alerts.test.yaml"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Lay rules and cases side by side."""
    return Path(shutil.copy(RULES, tmp_path)).parent


def test_every_alert_comes_when_it_should_and_says_whom_it_is_about(bench: Path) -> None:
    shutil.copy(CASES, bench)
    done = subprocess.run(
        [prometheus.program("promtool"), "test", "rules", bench / CASES.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    cases = yaml.safe_load(CASES.read_text())["tests"]
    tested = {rule["alertname"] for case in cases for rule in case["alert_rule_test"]}
    assert tested == {rule["alert"] for rule in group["rules"]}


def test_every_metric_that_an_alert_reads_is_one_that_the_driver_serves() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    read = {name for rule in group["rules"] for name in re.findall(r"rbdcsi_\w+", rule["expr"])}
    page = (manifests.ROOT / "docs/reference/metrics.md").read_text()
    served = set(re.findall(r"`(rbdcsi_\w+)`", page))
    assert {name.removesuffix("_bucket") for name in read} <= served
