"""Debian's Prometheus, scraping the driver of a Kubernetes with the labels that the chart gives."""

import contextlib
import json
import re
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e import processes
from e2e.clusters import commands, ports
from e2e.kubernetes import chart
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests, prometheus

RULES = manifests.CHART / "files/alerts.yaml"
_META = "__meta_kubernetes_pod_"


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers at this address and port."""

    address: str

    def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        """Return the series that the expression has now, each with its labels and its value."""
        words = urllib.parse.urlencode({"query": expression})
        found: Sequence[Mapping[str, Any]] = self._get(f"query?{words}")["result"]
        return found

    def targets(self) -> Sequence[Mapping[str, Any]]:
        """Return what is scraped, with labels, health and the last error."""
        found: Sequence[Mapping[str, Any]] = self._get("targets?state=active")["activeTargets"]
        return found

    def rules(self) -> Sequence[Mapping[str, Any]]:
        """Return the alert rules, with health, state and the last error."""
        (group,) = self._get("rules")["groups"]
        found: Sequence[Mapping[str, Any]] = group["rules"]
        return found

    def _get(self, what: str) -> Mapping[str, Any]:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{what}", timeout=30) as answer:
            data: Mapping[str, Any] = json.load(answer)["data"]
        return data


@contextlib.contextmanager
def scraping(kubernetes: Kubernetes) -> Iterator[Prometheus]:
    """Scrape the driver at the addresses of its Pods, which this host must reach.

    Raises:
        DeadlineExceeded: Prometheus does not answer.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        ports.claimed_pair("127.0.0.1") as port,
        contextlib.closing(processes.Spawner("prometheus")) as spawner,
    ):
        directory = Path(name)
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(kubernetes)))
        child = spawner.spawn(
            [
                prometheus.program(),
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            directory / "log",
        )
        try:
            running = Prometheus(f"127.0.0.1:{port}")
            commands.wait_until(lambda: _answers(running), "Prometheus answers")
            yield running
        finally:
            child.kill()
            child.wait()


def _answers(running: Prometheus) -> bool:
    with contextlib.suppress(OSError):
        running.query("vector(1)")
        return True
    return False


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
