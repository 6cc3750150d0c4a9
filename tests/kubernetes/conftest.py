"""A Kubernetes with the driver on it, once a run.

With KUBECONFIG set it is that one. The driver is installed on it, and stays, for the Ceph that
RBDCSI_TEST_CLUSTER names, which its nodes must reach. Tests that need the nodes as machines are
skipped then, and those that need two nodes where there is one.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.clusters import Cluster
from e2e.clusters.daemons import SweptDirectory
from e2e.kubernetes import build, chart, lab, workload
from e2e.kubernetes.client import Kubernetes
from e2e.release import image

Rbd = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, so that it runs only when it is asked for."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.kubernetes)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def own_lab(temporary: Path) -> Iterator[lab.Lab]:
    """Give a Kubernetes of this run, with its machines and its Ceph."""
    if "KUBECONFIG" in os.environ:
        pytest.skip("the nodes of the Kubernetes that KUBECONFIG names are not machines of ours")
    directory = Path(tempfile.mkdtemp(dir=temporary))
    with SweptDirectory(directory), lab.running(directory, image.archive()) as running:
        chart.install(running.kubernetes, chart.prepare(running.cluster, directory, "krbd"))
        yield running


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest, temporary: Path) -> tuple[Kubernetes, Cluster]:
    """Give the Kubernetes of this run, with the driver on it, and the Ceph behind it."""
    if "KUBECONFIG" not in os.environ:
        own: lab.Lab = request.getfixturevalue("own_lab")
        return own.kubernetes, own.cluster
    if "RBDCSI_TEST_CLUSTER" not in os.environ:
        pytest.fail(
            "KUBECONFIG is set, but RBDCSI_TEST_CLUSTER does not say which Ceph it shall use"
        )
    cluster: Cluster = request.getfixturevalue("cluster")
    given = Kubernetes(Path(os.environ["KUBECONFIG"]), build.build("kubectl"))
    chart.install(given, chart.prepare(cluster, temporary, "krbd"))
    return given, cluster


@pytest.fixture(scope="session")
def kubernetes(installed: tuple[Kubernetes, Cluster]) -> Kubernetes:
    """Give the Kubernetes of this run."""
    return installed[0]


@pytest.fixture(scope="session")
def rbd(installed: tuple[Kubernetes, Cluster]) -> Rbd:
    """Give the command `rbd` for the Ceph behind that Kubernetes."""
    return installed[1].rbd


@pytest.fixture(scope="session")
def nodes(kubernetes: Kubernetes) -> list[str]:
    """Give the names of the nodes, at least two; where there is one, the test is skipped."""
    names = [each["metadata"]["name"] for each in kubernetes.list("nodes")]
    if len(names) < 2:
        pytest.skip(f"two nodes are needed to move a volume; there is {', '.join(names)}")
    return names


@pytest.fixture
def namespace(kubernetes: Kubernetes, rbd: Rbd) -> Iterator[workload.Namespace]:
    """Give a namespace of the test; afterwards every image is some volume's, as it was before."""
    before = _without_volume(kubernetes, rbd)
    with workload.namespace(kubernetes) as made:
        yield made

    def none_is_left() -> bool:  # another's, whose volume is just being made, soon has one
        return _without_volume(kubernetes, rbd) <= before

    kubernetes.wait(none_is_left, "every image is some volume's", 60)


def _without_volume(kubernetes: Kubernetes, rbd: Rbd) -> set[str]:
    images = set(rbd("ls", chart.POOL).split())
    return images - {f"csi-{volume['metadata']['name']}" for volume in kubernetes.list("pv")}
