"""Monitors as people write them reach librados and the kernel."""

import dataclasses
from collections.abc import Callable

import pytest

from e2e.clusters import Cluster
from e2e.driver import Installation
from rbdcsi.ceph.connection import Connection
from rbdcsi.config import clusters_file, monitors
from rbdcsi.host.mappers import krbd_options
from rbdcsi.host.mappers.interface import Access, Image


@pytest.fixture
def connected(installation: Installation) -> Callable[[str], Connection]:
    """Give a verb that connects by monitors in this text."""
    (configured,) = clusters_file.load(installation.config).clusters

    def connect(text: str) -> Connection:
        named = dataclasses.replace(configured, conf_file=None, monitors=monitors.parse(text))
        return Connection.open(named, named.credentials(), 15)

    return connect


def test_names_are_addresses_for_the_mappers(
    cluster: Cluster, connected: Callable[[str], Connection]
) -> None:
    """The kernel resolves no names."""
    host, _, port = cluster.monitors.rpartition(":")
    connection = connected(f"localhost:{port}")
    image = Image(connection.fsid, 1, "pool", "", "id", "image")
    access = Access(connection.monitors, connection.user, connection.key)
    (old,) = (
        address.partition(":")[2].partition("/")[0]
        for entry in monitors.parse(connection.monitors)
        for address in monitors.addresses(entry)
        if address.startswith("v1:")
    )
    assert old.partition(":")[0] == host
    line = krbd_options.map_line(image, access, readonly=False, options="")
    assert line.split()[0] == old
    line = krbd_options.map_line(image, access, readonly=False, options="ms_mode=crc")
    assert line.split()[0] == f"{host}:{port}"
    connection.close()


@pytest.mark.parametrize("separator", [" ", ";", ", "])
def test_separators_of_ceph_part_monitors(
    cluster: Cluster, connected: Callable[[str], Connection], separator: str
) -> None:
    address = cluster.monitors
    connection = connected(separator.join((address, f"v2:{address}/0", f"[v2:{address}]")))
    assert connection.monitors == f"{address},v2:{address}/0,[v2:{address}]"
    connection.close()
