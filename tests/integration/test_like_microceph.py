"""The driver on a cluster of MicroCeph's shape, and on one that is given by settings."""

import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import rbd

from e2e import clusters, driver, errors, volume
from e2e.clusters import commands, existing
from e2e.volume import MIB
from rbdcsi.api import csi_pb2
from rbdcsi.model import ids, image_layout
from tests.integration.node.conftest import wait_until_registered
from tests.refusal import refused

pytestmark = [pytest.mark.ceph, pytest.mark.timeout(300)]

POOL, NODE = "volumes", "node-a"


@pytest.fixture(scope="module")
def shaped(temporary: Path) -> Iterator[clusters.Cluster]:
    assert temporary.is_dir()
    with clusters.start("like-microceph") as cluster:
        cluster.create_pool(POOL)
        yield cluster


@pytest.fixture
def installation(
    shaped: clusters.Cluster, temporary: Path, program: Sequence[str]
) -> Iterator[driver.Installation]:
    """Give the driver with a ceph.conf of its own, which the test may rewrite."""
    with tempfile.TemporaryDirectory(prefix="m", dir=temporary) as name:
        conf = Path(name) / "ceph.conf"
        conf.write_text(shaped.conf.read_text())
        cluster = dataclasses.replace(shaped, conf=conf)
        with driver.installed(cluster, Path(name), POOL, program=program) as made:
            yield made


def test_the_monitor_is_known_by_its_bare_address(shaped: clusters.Cluster) -> None:
    assert f"mon host = {shaped.monitors}\n" in shaped.conf.read_text()
    assert ":" not in shaped.monitors


def test_whole_life_of_a_volume_with_features_that_every_mapper_takes(
    shaped: clusters.Cluster, installation: driver.Installation
) -> None:
    controller, node = installation.controller().start(), installation.node(NODE).start()
    with shaped.connection() as connection, connection.open_ioctx(POOL) as ioctx:
        wait_until_registered(ioctx, node)
        made = volume.create(controller, "life", size=64 * MIB)
        volume.attach(controller, made, NODE)
        volume.stage(node, made)
        (volume.publish(node, made) / "file").write_text("written")
        with rbd.Image(ioctx, image_id=ids.parse(made.id).image_id) as image:
            assert shaped.ceph("config", "get", "client", "rbd_default_features") == 63
            assert image.features() == image_layout.mask(image_layout.DEFAULT)
        volume.unpublish(node, made)
        volume.unstage(node, made)
        volume.detach(controller, made, NODE)
        volume.delete(controller, made)


def test_ceph_conf_that_is_rewritten_underneath_is_read_at_the_next_connect(
    shaped: clusters.Cluster, installation: driver.Installation
) -> None:
    conf = installation.directory / "ceph.conf"
    right = conf.read_text()
    conf.write_text(right.replace(f"mon host = {shaped.monitors}", "mon host = 127.0.0.1:1"))
    controller = installation.controller("controller", "--operation-timeout", "2").start()
    assert not controller.identity.Probe(csi_pb2.ProbeRequest()).ready.value

    draft = conf.with_suffix(".new")  # as MicroCeph does when monitors come or go
    draft.write_text(right)
    draft.rename(conf)

    def ready() -> bool:
        return controller.identity.Probe(csi_pb2.ProbeRequest()).ready.value

    commands.wait_until(ready, "the driver has found the monitor", 60)
    volume.delete(controller, volume.create(controller, "after", size=16 * MIB))


def test_monitor_that_never_answers_is_unavailable_and_a_wrong_key_is_named_as_a_cause(
    installation: driver.Installation,
) -> None:
    conf = installation.directory / "ceph.conf"
    conf.write_text(re.sub(r"(?m)^mon host = .*$", "mon host = 127.0.0.1:1", conf.read_text()))
    controller = installation.controller("controller", "--operation-timeout", "2").start()
    with refused("UNAVAILABLE", "`ceph auth get client.controller-", "IP:3300"):
        volume.create(controller, "unreachable", size=16 * MIB)


@pytest.fixture
def settings(shaped: clusters.Cluster, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give the shaped cluster to the kinds that use a running one, without a pool to keep to."""
    for name, value in {"CONF": shaped.conf, "KEYRING": shaped.keyring, "USER": "admin"}.items():
        monkeypatch.setenv(f"RBDCSI_TEST_CEPH_{name}", str(value))
    return monkeypatch


def test_cluster_that_runs_already_is_taken_by_settings(
    shaped: clusters.Cluster, settings: pytest.MonkeyPatch
) -> None:
    settings.setenv("RBDCSI_TEST_CEPH_POOL", POOL)
    with clusters.start("existing") as found:
        assert (found.fsid, found.monitors) == (shaped.fsid, shaped.monitors)
        assert (found.user, found.pool) == ("admin", POOL)
        assert POOL in found.rados("lspools").split()
        with pytest.raises(errors.Unavailable, match="osd is not stopped"):
            found.stop_osd()
        with pytest.raises(errors.NotOurs, match="mon is not touched"):
            found.freeze_mon()


def _deletes_pools(cluster: clusters.Cluster) -> bool:
    return bool(cluster.ceph("config", "show", "mon.a", "mon_allow_pool_delete"))


@pytest.mark.usefixtures("settings")
def test_monitors_that_delete_no_pool_are_refused_before_a_test_begins(
    shaped: clusters.Cluster,
) -> None:
    with clusters.start("existing") as found:
        assert found.pool is None
    option = ("tell", "mon.a", "config", "set", "mon_allow_pool_delete")
    shaped.ceph(*option, "false")
    try:
        commands.wait_until(lambda: not _deletes_pools(shaped), "the monitor keeps pools")
        with (
            pytest.raises(errors.Unavailable, match=r"mon\.a has mon_allow_pool_delete off.*_POOL"),
            clusters.start("existing"),
        ):
            pass
    finally:
        shaped.ceph(*option, "true")
        commands.wait_until(lambda: _deletes_pools(shaped), "the monitor lets pools be deleted")


@pytest.mark.usefixtures("settings")
def test_settings_for_a_single_node_are_put_back(shaped: clusters.Cluster) -> None:
    shaped.ceph("config", "set", "global", "osd_pool_default_size", "3")
    before = shaped.ceph("config", "dump")
    with clusters.start("microceph") as found:
        assert found.ceph("config", "get", "osd", "osd_pool_default_size") == 1
    assert shaped.ceph("config", "dump") == before
    shaped.ceph("config", "rm", "global", "osd_pool_default_size")


def test_settings_that_name_no_file_are_refused_with_their_name() -> None:
    with pytest.raises(errors.Unavailable, match="RBDCSI_TEST_CEPH_CONF is '', which is no file"):
        existing.Settings.from_environment({}, "", "")
