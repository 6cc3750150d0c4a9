"""A Ceph without cephx: the kernel and rbd-nbd map its images without a key."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import driver, vm, volume
from e2e.clusters import Cluster
from e2e.clusters.local import LocalCluster
from e2e.pool import wait_until_registered
from e2e.vm.node import Node, compile_driver
from tests.vm import lab as labs
from tests.vm.lab import MAPPERS

POOL = "open"


@pytest.fixture(scope="module")
def cluster(network: vm.Network) -> Iterator[Cluster]:
    """Give a cluster of this module's own."""
    with LocalCluster(address=network.host, backend="memstore", cephx=False) as running:
        running.create_pool(POOL)
        yield running


@pytest.fixture(scope="module")
def at_work(
    cluster: Cluster, network: vm.Network, temporary: Path
) -> Iterator[tuple[driver.Driver, Node]]:
    """Give a controller, and a node in a machine, whose configurations have no key."""
    compile_driver()
    with (
        tempfile.TemporaryDirectory(prefix="o", dir=temporary) as directory,
        driver.installed(cluster, Path(directory), POOL, keys=False) as installation,
        vm.Machine("node-o", network, 5) as machine,
        cluster.connection() as connection,
        connection.open_ioctx(POOL) as ioctx,
    ):
        controller = installation.controller().start()
        user = "anybody", cluster.create_user("anybody", {})
        node = Node(machine, cluster, POOL, user, keys=False).start()
        wait_until_registered(ioctx, node.name)
        yield controller, node
        node.stop()


@pytest.mark.parametrize("mapper", MAPPERS)
def test_volume_lives_without_a_key(
    at_work: tuple[driver.Driver, Node], cluster: Cluster, mapper: str
) -> None:
    controller, node = at_work
    made = volume.create(controller, mapper, size=64 * labs.MIB, parameters={"mounter": mapper})
    volume.attach(controller, made, node.name)
    volume.stage(node, made)
    written = labs.write(node, volume.publish(node, made))
    labs.take_down(node, made)

    volume.stage(node, made)
    assert labs.checksum(node, volume.publish(node, made)) == written

    labs.take_down(node, made)
    assert labs.held_at(node) == []
    volume.detach(controller, made, node.name)
    volume.delete(controller, made)
    assert cluster.ceph("osd", "dump")["blocklist"] == {}
