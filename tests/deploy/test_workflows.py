"""The workflows: actionlint takes them, and what they call exists."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.release import manifests, programs

pytestmark = pytest.mark.timeout(900)  # builds actionlint when the cache is cold

WORKFLOWS = sorted((manifests.ROOT / ".github/workflows").glob("*.yaml"))
QUICKSTART = manifests.ROOT / "docs/how-to/microceph.md"
KEY = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA=="


def steps() -> Iterator[dict[str, Any]]:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            yield from job["steps"]


def matrix_targets() -> Iterator[str]:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            yield from job.get("strategy", {}).get("matrix", {}).get("target", ())


def commands_of_the_quickstart() -> list[str]:
    return re.findall(r"^\$ (.*)$", QUICKSTART.read_text(), re.MULTILINE)


def test_actionlint_has_nothing_to_say() -> None:
    argv = [str(word) for word in (programs.built("actionlint"), "-no-color", *WORKFLOWS)]
    done = subprocess.run(argv, cwd=manifests.ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_every_action_is_pinned_by_its_full_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", name)] == []


def test_every_go_module_is_kept_new() -> None:
    updates = yaml.safe_load((manifests.ROOT / ".github/dependabot.yml").read_text())["updates"]
    watched = {each["directory"] for each in updates if each["package-ecosystem"] == "gomod"}
    modules = (manifests.ROOT / "e2e").rglob("go.mod")
    assert watched == {f"/{path.parent.relative_to(manifests.ROOT)}" for path in modules}


def test_every_make_target_that_is_called_exists() -> None:
    makefile = (manifests.ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    lines = "\n".join(step.get("run", "") for step in steps())
    called = {*re.findall(r"\bmake ([a-z0-9-]+)", lines), *matrix_targets()}
    assert {"e2e-microceph", "e2e-kubernetes"} <= called
    assert called <= targets


def test_the_chart_is_published_by_the_helm_that_it_is_tested_with() -> None:
    (step,) = (each for each in steps() if each.get("uses", "").startswith("azure/setup-helm@"))
    pins = (programs.MODULE / "go.mod").read_text()
    assert f"\thelm.sh/helm/v3 {step['with']['version']} " in pins


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    (release,) = (path for path in WORKFLOWS if path.stem == "release")
    jobs = yaml.safe_load(release.read_text())["jobs"]
    assert jobs["image"]["needs"] == "checks"
    assert jobs["chart"]["needs"] == "image"


def test_the_quickstart_has_thirteen_commands_and_the_first_six_end_with_kubernetes() -> None:
    commands = commands_of_the_quickstart()
    assert len(commands) == 13
    assert "k3s" in commands[5]
    assert not any("helm" in command for command in commands[:6])
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_quickstart_installs_with_values_that_the_chart_takes() -> None:
    (install,) = (each for each in commands_of_the_quickstart() if "helm install" in each)
    with_keys = re.sub(r"\$\([^)]*get-key[^)]*\)", KEY, install)
    words = shlex.split(re.sub(r"\$\([^)]*\)", "10.0.0.1", with_keys))
    flags = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    assert "storageClasses[0].name=rbd" in flags
    manifests.template(*(word for flag in flags for word in ("--set", flag)))
