"""Fixtures of the tests on real kernels: a network, machines in it, and a Ceph that they reach.

Two machines serve the whole run; a test that ends one of them has it running again at its end.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rados

from e2e import clusters, driver, errors, leftovers, vm
from e2e.clusters import commands
from e2e.clusters.local import LocalCluster
from e2e.pool import wait_until_registered
from e2e.vm.node import Node, compile_driver
from tests.vm.lab import Lab, held_at

HERE = Path(__file__).parent
POOL = "machines"
WATCH_SECONDS = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this directory."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(600))  # a busy day; most take seconds


@pytest.fixture(scope="session")
def network(temporary: Path) -> Iterator[vm.Network]:
    """Give the run's network of machines."""
    assert temporary.is_dir()
    with vm.network() as made:
        yield made


@pytest.fixture(scope="session")
def cluster(network: vm.Network) -> Iterator[clusters.Cluster]:
    """Give a Ceph whose daemons listen where the machines reach them."""
    with LocalCluster(address=network.host) as running:
        # a client of a machine that died is waited for; the default is 30
        running.ceph("config", "set", "osd", "osd_client_watch_timeout", str(WATCH_SECONDS))
        yield running


@pytest.fixture(scope="session")
def pool(cluster: clusters.Cluster) -> str:
    """Give the name of the pool that all of these tests share."""
    cluster.create_pool(POOL)
    return POOL


@pytest.fixture(scope="session")
def machines(network: vm.Network) -> Iterator[tuple[vm.Machine, vm.Machine]]:
    """Give two running machines, `node-a` and `node-b`, which has SELinux (and no policy)."""
    compile_driver()
    a = vm.Machine("node-a", network, 0)
    b = vm.Machine("node-b", network, 1, kernel_words=("security=selinux",))
    with contextlib.ExitStack() as running, ThreadPoolExecutor() as together:
        for started in [together.submit(machine.__enter__) for machine in (a, b)]:
            running.push(started.result().__exit__)
        yield a, b


@pytest.fixture(scope="session")
def ioctx(admin: rados.Rados, pool: str) -> Iterator[rados.Ioctx]:
    """Give the pool as Ceph's own tools see it."""
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as opened:
        yield opened


@pytest.fixture(scope="session")
def running_lab(
    cluster: clusters.Cluster,
    pool: str,
    machines: tuple[vm.Machine, vm.Machine],
    ioctx: rados.Ioctx,
    temporary: Path,
) -> Iterator[Lab]:
    """Give the driver at work, with both nodes registered in Ceph."""
    user = "node", cluster.create_user("node", clusters.node_caps(pool))
    directory = Path(tempfile.mkdtemp(prefix="d", dir=temporary))
    with driver.installed(cluster, directory, pool) as installation:
        controller = installation.controller().start()
        flags = ("--mapper=krbd",)  # as the chart starts it
        a, b = (Node(machine, cluster, pool, user, flags) for machine in machines)
        with ThreadPoolExecutor() as together:
            list(together.map(Node.start, (a, b)))
        for node in (a, b):
            wait_until_registered(ioctx, node.name)
        yield Lab(controller, (a, b), ioctx, cluster, installation.config)


@pytest.fixture
def lab(running_lab: Lab, admin: rados.Rados, cluster: clusters.Cluster) -> Iterator[Lab]:
    """Give the driver at work; after the test neither the nodes nor Ceph hold more than before."""
    before = leftovers.in_ceph(admin)
    boots = {node.machine: node.machine.boots for node in running_lab.nodes}

    def left() -> str:
        ended = [machine for machine, count in boots.items() if machine.boots > count]
        lift_fences(cluster, [machine.address for machine in ended])
        return leftovers.difference(before, leftovers.in_ceph(admin))

    yield running_lab
    for node in running_lab.nodes:
        assert held_at(node) == []
    with contextlib.suppress(errors.DeadlineExceeded):  # deleted data goes in the background
        commands.wait_until(lambda: not left(), "nothing is left in Ceph", 120)
    assert left() == ""


def lift_fences(cluster: clusters.Cluster, addresses: list[str]) -> None:
    """Lift the fences of machines that died: whoever takes a dead client's lock puts one up."""
    for client in cluster.ceph("osd", "dump")["blocklist"] if addresses else ():
        if client.partition(":")[0] in addresses:
            cluster.ceph("osd", "blocklist", "rm", client)
