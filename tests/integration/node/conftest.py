"""The lab of the Node service's tests: one controller and two registered nodes for each module."""

from collections.abc import Iterator

import pytest
import rados

from e2e import driver, pool
from e2e.clusters import Cluster
from e2e.driver import Driver
from tests.integration.node import slow as slow_nodes
from tests.integration.node.lab import Lab, node_id
from tests.integration.node.slow import SlowNode


@pytest.fixture(scope="module")
def ioctx(admin: rados.Rados, pool: str) -> Iterator[rados.Ioctx]:
    """Give the module's pool as Ceph's own tools see it."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as opened:
        yield opened


@pytest.fixture(scope="module")
def lab(
    controller: Driver, nodes: tuple[Driver, Driver], ioctx: rados.Ioctx, cluster: Cluster
) -> Lab:
    """Give the driver at work, with both nodes registered in Ceph."""
    for node in nodes:
        wait_until_registered(ioctx, node)
    return Lab(controller, nodes, ioctx, cluster)


@pytest.fixture(scope="module")
def victim(installation: driver.Installation, ioctx: rados.Ioctx) -> Driver:
    """Give a third node for the tests that kill it; registered, and running again at each start."""
    node = installation.node("node-v").start()
    wait_until_registered(ioctx, node)
    return node


@pytest.fixture(scope="module")
def slow(lab: Lab, installation: driver.Installation) -> SlowNode:
    """Give a node with programs that can be slow."""
    slow_node = slow_nodes.prepare(installation.node("node-l"))
    wait_until_registered(lab.ioctx, slow_node.node.start())
    return slow_node


def wait_until_registered(ioctx: rados.Ioctx, node: Driver) -> None:
    """Return when the node's record is in Ceph."""
    pool.wait_until_registered(ioctx, node_id(node))
