"""Wrong values of the chart: helm refuses each with its place, before a cluster sees it."""

import json
from typing import Any

import pytest

from e2e import errors
from e2e.release import manifests
from rbdcsi.config import options
from rbdcsi.errors import ConfigError

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

MINIMAL = ("--set", "existingSecret=rbdcsi-config")
KEY = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA=="


def refusal(*flags: str) -> str:
    """Return helm's message."""
    with pytest.raises(errors.Failed) as caught:
        manifests.template(*flags)
    return str(caught.value)


def as_flag(path: str, value: Any) -> tuple[str, str]:
    return "--set-json", f"{path}={json.dumps(value)}"


@pytest.mark.parametrize(
    ("path", "name", "mistake"),
    [
        ("node.podLabels", "a b", ": additional properties 'a b' not allowed"),
        ("node.podLabels", "a" * 254 + "/b", f"/{'a' * 254}~1b': false schema"),
        ("node.podLabels", "grafana_dashboard", "value must be '(the chart sets this itself)'"),
        ("node.podAnnotations", "/a", ": additional properties '/a' not allowed"),
        ("node.podAnnotations", "checksum/config", "value must be '(the chart sets this itself)'"),
        ("controller.nodeSelector", "a/b/c", ": additional properties 'a/b/c' not allowed"),
        ("sidecars.resources.limits", "a b", ": additional properties 'a b' not allowed"),
    ],
)
def test_wrong_name_in_a_map_is_refused_with_its_place(path: str, name: str, mistake: str) -> None:
    message = refusal(*MINIMAL, *as_flag(path, {name: "1"}))
    assert f"at '/{path.replace('.', '/')}" in message
    assert mistake in message


def test_parameter_without_a_name_is_refused_with_its_place() -> None:
    message = refusal(
        *MINIMAL, *as_flag("storageClasses", [{"name": "a", "parameters": {"": "b"}}])
    )
    assert "at '/storageClasses/0/parameters/': false schema" in message


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"user": "a,b"}, "at '/clusters/0/user': 'a,b' does not match pattern"),
        ({"user": "a b"}, "at '/clusters/0/user': 'a b' does not match pattern"),
        ({"user": "client."}, "at '/clusters/0/user': 'not' failed"),
        ({"nodeUser": "a=b", "nodeKey": KEY}, "at '/clusters/0/nodeUser': 'a=b' does not match"),
        ({"radosNamespace": "a/b"}, "at '/clusters/0/radosNamespace': 'a/b' does not match"),
        ({"monitors": [""]}, "at '/clusters/0/monitors/0': minLength"),
        ({"monitors": ["a", "fd00::1"]}, 'clusters: main: "fd00::1" is not a monitor\'s address'),
        ({"monitors": ["http://x"]}, 'clusters: main: "http://x" is not a monitor\'s address'),
        ({"monitors": ["a:65536"]}, 'clusters: main: "a:65536" is not a monitor\'s address'),
    ],
)
def test_cluster_that_the_driver_would_refuse_is_refused(
    change: dict[str, Any], mistake: str
) -> None:
    cluster = {"clusterID": "main", "monitors": ["a"], "pool": "p", "user": "u", "key": KEY}
    assert mistake in refusal(*as_flag("clusters", [{**cluster, **change}]))


@pytest.mark.parametrize(
    ("topology", "mistake"),
    [
        (["A_b/c=d"], "at '/node/topology/0': 'A_b/c=d' does not match pattern"),
        (["a=b:"], "at '/node/topology/0': 'a=b:' does not match pattern"),
        ([f"a={'b' * 64}"], "at '/node/topology/0'"),
        (["a/b=c", "d=e", "a/b=f"], 'node.topology: two segments have the key "a/b"; keep one'),
    ],
)
def test_topology_that_the_driver_would_refuse_is_refused(
    topology: list[str], mistake: str
) -> None:
    with pytest.raises(ConfigError):
        options.parse_topology(topology)
    assert mistake in refusal(*MINIMAL, *as_flag("node.topology", topology))


@pytest.mark.parametrize(
    "name", ["storageClasses", "volumeSnapshotClasses", "volumeGroupSnapshotClasses"]
)
def test_two_classes_of_one_name_are_refused(name: str) -> None:
    classes = [{"name": "a"}, {"name": "rbd"}, {"name": "rbd", "annotations": {"b": "c"}}]
    message = refusal(*MINIMAL, *as_flag(name, classes))
    assert f'{name}: two have the name "rbd"; give each its own' in message


def test_one_directory_for_two_purposes_is_refused() -> None:
    message = refusal(*MINIMAL, *as_flag("node.stateDir", "/var/lib/kubelet"))
    both = 'node.stateDir and node.kubeletDir are both "/var/lib/kubelet"; give each a directory'
    assert both in message
    manifests.template(*MINIMAL, *as_flag("node.stateDir", "/var/lib/kubelet/rbdcsi"))


def test_clusters_beside_a_secret_that_would_hide_them_are_refused() -> None:
    cluster = {"clusterID": "main", "monitors": ["a"], "pool": "p", "user": "u", "key": KEY}
    message = refusal(*MINIMAL, *as_flag("clusters", [cluster]))
    assert "give `clusters` or `existingSecret`, not both" in message
    for_nodes = as_flag("node.existingSecret", "on-nodes")
    manifests.template(*for_nodes, *as_flag("clusters", [cluster]))
    manifests.template(*MINIMAL, *for_nodes, *as_flag("clusters", []))
