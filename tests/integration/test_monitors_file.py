"""The driver on monitors that are in a file, as Rook writes it and changes it."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from e2e import clusters, driver, volume
from e2e.clusters import commands
from e2e.driver import CLUSTER_ID
from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.connections import Connections
from rbdcsi.config import clusters_file
from tests.integration.node.conftest import wait_until_registered

NODE = "node-a"


@pytest.fixture
def monitors(temporary: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="f", dir=temporary) as directory:
        yield Path(directory) / "monitors"


@pytest.fixture
def installation(
    cluster: clusters.Cluster, pool: str, monitors: Path, program: Sequence[str]
) -> Iterator[driver.Installation]:
    """Give the driver without a ceph.conf: all that it knows of the monitors is in the file."""
    monitors.write_text(f"a={cluster.monitors}")
    with driver.installed(cluster, monitors.parent, pool, program=program) as made:
        for file in (made.config, made.node_config):
            document = yaml.safe_load(file.read_text())
            (section,) = document["clusters"]
            del section["confFile"]
            section["monitorsFile"] = str(monitors)
            file.write_text(yaml.safe_dump(document))
        yield made


def test_whole_life_of_a_volume_with_each_form_of_rook(
    cluster: clusters.Cluster, pool: str, monitors: Path, installation: driver.Installation
) -> None:
    controller, node = installation.controller().start(), installation.node(NODE).start()
    with cluster.connection() as connection, connection.open_ioctx(pool) as ioctx:
        wait_until_registered(ioctx, node)
        listed = [{"clusterID": CLUSTER_ID, "monitors": [cluster.monitors], "cephFS": {}}]
        for number, text in enumerate((monitors.read_text(), json.dumps(listed))):
            monitors.write_text(text)
            made = volume.create(controller, f"life-{number}", size=16 * volume.MIB)
            volume.attach(controller, made, NODE)
            volume.stage(node, made)
            (volume.publish(node, made) / "file").write_text("written")
            volume.unpublish(node, made)
            volume.unstage(node, made)
            volume.detach(controller, made, NODE)
            volume.delete(controller, made)


def test_a_new_connection_takes_the_monitors_that_the_file_has_then(
    cluster: clusters.Cluster, monitors: Path, installation: driver.Installation
) -> None:
    monitors.write_text("a=127.0.0.1:1")  # of a monitor that was replaced
    controller = installation.controller("controller", "--operation-timeout", "2").start()

    def ready() -> bool:
        return bool(controller.identity.Probe(csi_pb2.ProbeRequest()).ready.value)

    assert not ready()
    monitors.write_text(f"b={cluster.monitors}")
    commands.wait_until(ready, "the driver has found the monitor", 60)


def test_a_connection_that_does_not_answer_is_replaced_when_the_file_has_other_monitors(
    cluster: clusters.Cluster, monitors: Path, installation: driver.Installation
) -> None:
    pooled = Connections(clusters_file.load(Path(installation.config)), timeout=10)

    def after_a_failure() -> Connection:
        with pytest.raises(errors.Unavailable), pooled.use(CLUSTER_ID):
            raise errors.Unavailable("no monitor answers")
        return pooled.get(CLUSTER_ID)

    first = pooled.get(CLUSTER_ID)
    assert after_a_failure() is first
    monitors.write_text(f"b={cluster.monitors},c=127.0.0.1:1")
    second = after_a_failure()
    assert second is not first
    assert after_a_failure() is second
    for each in (first, second):
        each.close()
