"""A controller on one pool for each module, two nodes that Ceph knows, and Ceph's own view."""

import urllib.request
import uuid
from collections.abc import Iterator

import pytest
import rados

from e2e import driver, volume
from e2e.clusters import Cluster, ports
from e2e.driver import Driver
from e2e.volume import Volume
from tests.integration.controller.scrape import Scrape
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered


@pytest.fixture(scope="module")
def data_pool(cluster: Cluster) -> Iterator[str]:
    """Give the name of an erasure-coded pool for the data of images."""
    name = f"ec-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name, erasure=True)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="module")
def view(admin: rados.Rados, pool: str) -> Iterator[View]:
    """Give the module's pool as Ceph's own tools see it."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as opened:
        yield View(opened)


@pytest.fixture(scope="module")
def known_nodes(installation: driver.Installation, view: View) -> tuple[str, str]:
    """Register two nodes, which then go: an attachment does not need them to run."""
    nodes = [installation.node(node_id).start() for node_id in ("node-1", "node-2")]
    for node in nodes:
        wait_until_registered(view.ioctx, node)
        node.stop()
    return "node-1", "node-2"


@pytest.fixture
def watched(installation: driver.Installation) -> Iterator[tuple[Driver, Scrape]]:
    """Give a controller of this test's own, not yet started, and what it shows over HTTP."""
    with ports.claimed_pair("127.0.0.1") as port:
        address = f"127.0.0.1:{port}"
        controller = installation.controller(f"c{port}", "--metrics-address", address)

        def get(page: str) -> str:
            with urllib.request.urlopen(f"http://{address}/{page}", timeout=10) as answer:
                return str(answer.read().decode())

        yield controller, get
        controller.stop()


@pytest.fixture
def made(controller: Driver, request: pytest.FixtureRequest) -> Iterator[Volume]:
    """Give a volume, named for the test; after it, it is detached from every node and deleted."""
    volume_made = volume.create(controller, request.node.name, size=16 * volume.MIB)
    yield volume_made
    volume.detach(controller, volume_made, "")
    volume.delete(controller, volume_made)
