"""A cluster without cephx: the configuration says so, and no key is needed."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from e2e import clusters, driver
from e2e.clusters.local import LocalCluster
from tests.integration.controller.view import View
from tests.integration.node.conftest import wait_until_registered
from tests.integration.whole_life import Class, live


@pytest.fixture(scope="module")
def open_cluster(temporary: Path) -> Iterator[clusters.Cluster]:
    """Give a cluster of this module's own."""
    assert temporary.is_dir()
    with LocalCluster(backend="memstore", cephx=False) as running:
        yield running


def test_a_volume_lives_without_a_key(
    open_cluster: clusters.Cluster, temporary: Path, program: Sequence[str]
) -> None:
    open_cluster.create_pool("open")
    with (
        tempfile.TemporaryDirectory(prefix="o", dir=temporary) as directory,
        driver.installed(
            open_cluster, Path(directory), "open", program=program, keys=False
        ) as installation,
        open_cluster.connection() as connection,
        connection.open_ioctx("open") as ioctx,
    ):
        controller, node = installation.controller().start(), installation.node("node-a").start()
        wait_until_registered(ioctx, node)
        secrets = {"userID": "anybody", "userKey": open_cluster.create_user("x", {}).reveal()}
        for name, storage_class in (
            ("plain", Class({})),
            ("with-secrets", Class({}, provisioner=secrets, node_stage=secrets)),
        ):
            live(controller, node, View(ioctx), storage_class, name)
