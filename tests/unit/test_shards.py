"""Each test in a virtual machine or on Kubernetes is run by some run of `.ci/run`."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.shards import SHARDS

ROOT = Path(__file__).parents[2]
# Collects all such tests and the long ones, and prints the names of each one's marks.
COLLECT = """
import json, sys, pytest

class Marks:
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        marks = {item.nodeid: [mark.name for mark in item.iter_markers()] for item in items}
        json.dump(marks, sys.stderr)

chosen = ["-m", "vm or kubernetes or long", "tests"]
sys.exit(pytest.main(["--collect-only", "-qq", *chosen], [Marks()]))
"""


@pytest.fixture(scope="module")
def marks() -> Mapping[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {test: set(names) for test, names in json.loads(done.stderr).items()}


def test_each_test_is_in_the_smoke_run_or_in_one_shard_or_too_long(
    marks: Mapping[str, set[str]],
) -> None:
    shards = {
        test: [name for name, shard in SHARDS.items() if shard.mark in names and shard.has(test)]
        for test, names in marks.items()
        if not names & {"smoke", "long"}
    }

    assert {test: names for test, names in shards.items() if len(names) != 1} == {}
    assert {name for (name,) in shards.values()} == SHARDS.keys()


def test_both_kinds_have_a_smoke_run(marks: Mapping[str, set[str]]) -> None:
    smoke = [names for names in marks.values() if "smoke" in names]

    assert any("vm" in names for names in smoke)
    assert any("kubernetes" in names for names in smoke)


def test_nothing_but_what_takes_longer_than_a_shard_is_left_out(
    marks: Mapping[str, set[str]],
) -> None:
    left_out = {test for test, names in marks.items() if "long" in names}
    assert {
        test.rpartition("::")[2] for test in left_out if marks[test] & {"vm", "kubernetes"}
    } == {
        "test_fifty_pods_get_their_volumes_at_once",
        "test_every_spec_that_can_be_had_passes",
        "test_pods_of_a_machine_that_is_off_go_on_with_all_durable_lines[force-delete]",
        "test_the_specs_that_stop_kubelets_pass",
    }


@pytest.mark.parametrize("mark", ["vm", "kubernetes"])
def test_each_test_is_below_a_path_that_make_names(
    marks: Mapping[str, set[str]], mark: str
) -> None:
    variable = re.search(r"^ON_KUBERNETES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert variable
    paths = {"vm": ["tests/vm"], "kubernetes": variable[1].split()}[mark]
    files = {ROOT / test.partition("::")[0] for test, names in marks.items() if mark in names}

    assert files
    assert [
        file for file in files if not any(file.is_relative_to(ROOT / path) for path in paths)
    ] == []
