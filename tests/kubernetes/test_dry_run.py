"""Whatever the chart's schema allows, a real API server takes: server-side dry runs, no machine."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from e2e.clusters.ports import claimed_loopback
from e2e.kubernetes import control_plane, definitions, snapshots
from e2e.kubernetes.addresses import Loopback
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests
from tests.kubernetes import chart_values

pytestmark = pytest.mark.smoke

NAMESPACES = ("rbdcsi", "5", "0777", "no", "n" * 63)
EXAMPLES = 30
# Of the Prometheus operator, whose definitions this server does not have; the metadata is checked.
_MONITORING = ("PodMonitor", "ServiceMonitor", "PrometheusRule")


@pytest.fixture(scope="module")
def api_server(temporary: Path) -> Iterator[Kubernetes]:
    """Give an API server with the namespaces, and with the kinds of the Prometheus operator."""
    directory = Path(tempfile.mkdtemp(prefix="a", dir=temporary))
    with (
        claimed_loopback() as address,
        control_plane.api_server(directory, Loopback(address)) as running,
    ):
        kubernetes = running.client
        for name in NAMESPACES:
            kubernetes.kubectl("create", "namespace", name)
        definitions.add(kubernetes, "monitoring.coreos.com", "v1", "Namespaced", _MONITORING)
        snapshots.add_api(kubernetes)
        definitions.add_snapshot_metadata(kubernetes)
        yield kubernetes


def _taken(kubernetes: Kubernetes, text: str) -> None:
    """Let the API server check the objects strictly; it keeps none of them."""
    _make_namespaces(kubernetes, text)
    kubernetes.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


def _make_namespaces(kubernetes: Kubernetes, text: str) -> None:
    """Make the namespaces of the objects.

    Those of Secrets that classes name exist before the chart is installed.
    """
    listed = kubernetes.kubectl("get", "namespaces", "--output=name")
    there = {line.removeprefix("namespace/") for line in listed.split()}
    objects = filter(None, yaml.safe_load_all(text))
    for name in {str(each["metadata"].get("namespace", "default")) for each in objects} - there:
        kubernetes.kubectl("create", "namespace", name)


# Without shrinking: each attempt takes a second, and the server's message names the field.
@hypothesis.settings(
    max_examples=EXAMPLES, derandomize=True, database=None, phases=[hypothesis.Phase.generate]
)
@hypothesis.given(chart_values.values(), chart_values.releases(), st.sampled_from(NAMESPACES))
def test_a_real_api_server_takes_every_rendering(
    api_server: Kubernetes, values: chart_values.Values, release: str, namespace: str
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = chart_values.file(Path(directory), values)
        text = manifests.template("--values", str(file), release=release, namespace=namespace)
    _taken(api_server, text)


def test_a_rendering_with_everything_is_taken_for_an_odd_release(api_server: Kubernetes) -> None:
    text = manifests.template("--values", str(manifests.EVERYTHING), release="5", namespace="0777")
    _taken(api_server, text)
    elsewhere = {
        each["kind"]
        for each in filter(None, yaml.safe_load_all(text))
        if each["metadata"].get("namespace") not in {None, "0777"}
    }
    assert elsewhere == {"Role", "RoleBinding"}, "for Secrets that classes name"


def test_what_the_api_server_refuses_is_seen(api_server: Kubernetes) -> None:
    text = manifests.template("--values", str(manifests.EVERYTHING))
    with pytest.raises(Exception, match="hostNetworking"):
        _taken(api_server, text.replace("hostNetwork:", "hostNetworking:"))
    with pytest.raises(Exception, match="caCertificate"):
        _taken(api_server, text.replace("caCert:", "caCertificate:"))
    with pytest.raises(Exception, match=r"unmarshal|expected string|invalid type"):
        _taken(api_server, text.replace('namespace: "rbdcsi"', "namespace: 5"))


def test_the_certificate_of_the_chart_stays_over_upgrades_until_its_secret_is_deleted(
    api_server: Kubernetes,
) -> None:
    release = ("rbdcsi", f"--kubeconfig={api_server.kubeconfig}")
    flags = ("--install", f"--values={manifests.EVERYTHING}")

    def certificate() -> Mapping[str, str]:
        manifests.helm("upgrade", *release, str(manifests.CHART), *flags)
        secret = api_server.get("secret", "rbdcsi-snapshot-metadata", "rbdcsi")
        service = api_server.get("snapshotmetadataservice", "rbd.rbdcsi.io")
        assert secret
        assert service
        assert secret["data"]["ca.crt"] == service["spec"]["caCert"]
        return dict(secret["data"])

    _make_namespaces(api_server, manifests.template(f"--values={manifests.EVERYTHING}"))
    try:
        first = certificate()
        assert certificate() == first
        api_server.delete("secret", "rbdcsi-snapshot-metadata", "rbdcsi")
        assert not set(certificate().values()) & set(first.values())
    finally:
        manifests.helm("uninstall", *release)
