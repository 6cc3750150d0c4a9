"""Debian's Prometheus, scraping the driver of a Kubernetes with the labels that the chart gives."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from e2e.kubernetes import chart
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests, prometheus

RULES = manifests.CHART / "files/alerts.yaml"
_META = "__meta_kubernetes_pod_"


@contextlib.contextmanager
def scraping(kubernetes: Kubernetes) -> Iterator[prometheus.Prometheus]:
    """Scrape the driver at the addresses of its Pods, which this host must reach.

    Raises:
        DeadlineExceeded: Prometheus does not answer.
    """
    with prometheus.running(_configuration(kubernetes)) as server:
        yield server


def _configuration(kubernetes: Kubernetes) -> Mapping[str, object]:
    endpoint = _endpoint()
    job = {
        "job_name": f"{chart.NAMESPACE}/{chart.RELEASE}",
        "static_configs": list(_targets(kubernetes)),
        "honor_labels": endpoint["honorLabels"],
        "relabel_configs": [_as_prometheus_spells(each) for each in endpoint["relabelings"]],
    }
    often = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    return {
        "global": dict.fromkeys(often, "5s"),
        "rule_files": [str(RULES)],
        "scrape_configs": [job],
    }


def _targets(kubernetes: Kubernetes) -> Iterator[Mapping[str, object]]:
    """Yield the ports of Pods that are called "metrics", as the operator's discovery has them.

    Debian's Prometheus is built without that of Kubernetes, so they stay what they are now.
    """
    for pod in kubernetes.list("pods", chart.NAMESPACE):
        name, component = pod["metadata"]["name"], "app.kubernetes.io/component"
        labels = {
            "pod": name,
            f"{_META}node_name": pod["spec"]["nodeName"],
            f"{_META}label_{re.sub('[./]', '_', component)}": pod["metadata"]["labels"][component],
        }
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                if port["name"] == "metrics":
                    address = f"{pod['status']['podIP']}:{port['containerPort']}"
                    yield {"targets": [address], "labels": labels}


def _endpoint() -> Mapping[str, Any]:
    """Return what the chart's PodMonitor says of its one endpoint."""
    values = "existingSecret=rbdcsi-config,monitoring.podMonitor.enabled=true"
    rendered = manifests.template("--set", values)
    (monitor,) = (each for each in yaml.safe_load_all(rendered) if each["kind"] == "PodMonitor")
    endpoint: Mapping[str, Any]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    return endpoint


def _as_prometheus_spells(relabeling: Mapping[str, object]) -> Mapping[str, object]:
    return {re.sub("[A-Z]", r"_\g<0>", key).lower(): relabeling[key] for key in relabeling}
