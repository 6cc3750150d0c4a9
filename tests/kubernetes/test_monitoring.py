"""Prometheus scrapes the driver: metrics and alert rules of the chart have values there."""

import re

import yaml

from e2e.kubernetes import chart, monitor, workload
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests

# They are not there until something goes wrong.
OF_ERRORS = {
    "rbdcsi_ceph_operation_errors_total",
    "rbdcsi_deletions_unfinished_oldest_timestamp_seconds",
}
CENSUS_SECONDS = 120  # the controller counts once a minute


def metrics() -> set[str]:
    """Return the names of docs/reference/metrics.md; a histogram by what it has counted."""
    page = (manifests.ROOT / "docs/reference/metrics.md").read_text()
    found = re.findall(r"^\| `(rbdcsi_\w+)` \| (\w+) ", page, re.MULTILINE)
    return {f"{name}_count" if kind == "histogram" else name for name, kind in found} - OF_ERRORS


def compared() -> dict[str, str]:
    """Return what each alert compares with its bound; for any code, because nothing fails now."""
    (group,) = yaml.safe_load(monitor.RULES.read_text())["groups"]
    left = {rule["alert"]: re.split(r" (?:==|<|>) ", rule["expr"])[0] for rule in group["rules"]}
    return {alert: re.sub(r"\{code=[^}]*\}", "", query) for alert, query in left.items()}


def test_prometheus_finds_controllers_and_nodes_and_every_query_has_values(
    kubernetes: Kubernetes, namespace: workload.Namespace
) -> None:
    nodes = {each["metadata"]["name"] for each in kubernetes.list("nodes")}
    queries = {**{name: name for name in metrics()}, **compared()}
    assert len(queries) > 15
    with monitor.scraping(kubernetes) as prometheus:
        namespace.claim("data")
        namespace.start("writer", "data")

        def unanswered() -> list[str]:
            return [name for name, query in queries.items() if not prometheus.query(query)]

        kubernetes.wait(lambda: not unanswered(), "every query has values", CENSUS_SECONDS)
        targets = prometheus.targets()
        assert {each["health"] for each in targets} == {"up"}
        components = sorted(each["labels"]["component"] for each in targets)
        assert components == ["controller"] * 2 + ["node"] * len(nodes)
        assert {each["labels"]["node"] for each in targets} <= nodes
        for rule in prometheus.rules():
            assert rule["health"] == "ok", rule
        pod = kubernetes.get("pod", "writer", namespace.name)
        assert pod
        node = pod["spec"]["nodeName"]
        node_id = f"{chart.CLUSTER_NAME}/{node}"
        staged = f"rbdcsi_attachments{{state='staged', node='{node_id}'}} > 0"
        kubernetes.wait(lambda: bool(prometheus.query(staged)), f"staged on {node}", CENSUS_SECONDS)
