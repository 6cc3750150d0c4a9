"""A null removes a default of the chart: helm refuses it where the chart needs a value."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import errors
from e2e.release import manifests
from rbdcsi.cli import serve
from tests.deploy import renderings, test_chart

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

DEFAULTS = yaml.safe_load((manifests.CHART / "values.yaml").read_text())
NEEDED = {
    "": "image csiDriver fence log controller sidecars node networkPolicy monitoring",
    "image": "repository",
    "log": "format level",
    "controller": "replicas detachGrace metricsPort podDisruptionBudget",
    "sidecars": ("provisioner attacher resizer snapshotter snapshotMetadata nodeDriverRegistrar"),
    "sidecars.provisioner": "image timeout",
    "sidecars.attacher": "image timeout reconcileSync",
    "sidecars.resizer": "image timeout",
    "sidecars.snapshotter": "image timeout",
    "sidecars.snapshotMetadata": "image audience",
    "sidecars.nodeDriverRegistrar": "image",
    "node": "mapper kubeletDir stateDir daemonCgroup metricsPort",
}


def paths(values: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value, and of each object that has values."""
    for name, value in values.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, *above, name)


def null(path: tuple[str, ...]) -> str:
    return "--set=" + ".".join(name.replace(".", r"\.") for name in path) + "=null"


def is_needed(path: tuple[str, ...]) -> bool:
    return path[-1] in NEEDED.get(".".join(path[:-1]), "").split()


def without_nulls(value: Any) -> Any:
    """Return an object as the API server reads it."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("above", NEEDED)
def test_null_is_refused_where_the_chart_needs_a_value(above: str) -> None:
    names = NEEDED[above].split()
    within = tuple(above.split(".")) if above else ()
    with pytest.raises(errors.Failed) as caught:
        manifests.template(*renderings.EVERYTHING, *(null((*within, name)) for name in names))
    place = f"/{above.replace('.', '/')}" if above else ""
    listed = re.search(f"at '{place}': missing propert(?:y|ies) (.*)", str(caught.value))
    assert listed
    assert set(re.findall(r"'(\w+)'", listed[1])) == set(names)


@pytest.mark.parametrize(
    ("depth", "switches"),
    [(1, False), (2, False), (2, True), (3, False), (3, True), (4, False)],
)
def test_every_other_null_gives_objects_that_kubernetes_and_the_driver_take(
    depth: int, switches: bool, tmp_path: Path
) -> None:
    nulls = [
        null(path)
        for path in paths(DEFAULTS)
        if len(path) == depth
        and (path[-1] == "enabled") is switches
        and not is_needed(path)
        and path != ("clusters",)
    ]
    text = manifests.template(*renderings.EVERYTHING, *nulls)
    objects = without_nulls(list(filter(None, yaml.safe_load_all(text))))
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    assert test_chart.mistakes(file) == ""
    for workload in (each for each in objects if each["kind"] in {"StatefulSet", "DaemonSet"}):
        serve.serve.make_context("serve", test_chart.driver_args(workload))
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert container["image"]
            assert [arg for arg in container["args"] if re.search("=$|nil", arg)] == []
