"""The pool of connections in this process: clients of calls' own users end when they are idle."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import clusters, driver
from e2e.clusters import controller_caps
from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.ceph.connection import Connection
from rbdcsi.config import clusters as clusters_module
from rbdcsi.config import clusters_file
from rbdcsi.config.credentials import Credentials

USER = "of-a-class"


@pytest.fixture
def pooled(
    installation: driver.Installation, monkeypatch: pytest.MonkeyPatch
) -> Iterator[connections.Connections]:
    """Give a pool where a connection that is not in use is idle."""
    monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.0)
    pool = connections.Connections(clusters_file.load(Path(installation.config)), timeout=10)
    yield pool
    pool.close_idle()


@pytest.fixture
def credentials(cluster: clusters.Cluster, pool: str) -> Iterator[Credentials]:
    yield Credentials(USER, cluster.create_user(USER, controller_caps(pool)))
    cluster.ceph("auth", "del", f"client.{USER}")


def test_an_idle_client_is_closed_and_made_again_when_it_is_needed(
    pooled: connections.Connections, credentials: Credentials
) -> None:
    with pooled.use(driver.CLUSTER_ID, credentials) as first:
        assert first.home().get_pool_name()
    pooled.close_idle()
    with pooled.use(driver.CLUSTER_ID, credentials) as second:
        assert second is not first
        assert second.home().get_pool_name()


def test_a_client_in_use_and_the_configured_one_stay(
    pooled: connections.Connections, credentials: Credentials
) -> None:
    with pooled.use(driver.CLUSTER_ID) as configured:
        pass
    with pooled.use(driver.CLUSTER_ID, credentials) as used:
        pooled.close_idle()
        assert used.home().get_pool_name()
        assert pooled.get(driver.CLUSTER_ID, credentials) is used
    assert pooled.get(driver.CLUSTER_ID) is configured
    assert configured.home().get_pool_name()


def test_a_client_that_was_replaced_is_closed(
    pooled: connections.Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_RIGHTS_SECONDS", 0.0)
    monkeypatch.setattr(connections, "_RETIRED_SECONDS", 0.0)
    with pytest.raises(errors.Forbidden), pooled.use(driver.CLUSTER_ID) as first:
        raise errors.Forbidden("a right is missing")
    with pooled.use(driver.CLUSTER_ID) as second:
        pass
    assert second is not first
    pooled.close_idle()
    assert [each._rados.state for each in (first, second)] == ["shutdown", "connected"]


def test_a_key_that_ceph_refuses_does_not_end_the_connection_by_the_former_one(
    pooled: connections.Connections, credentials: Credentials, tmp_path: Path
) -> None:
    assert credentials.key
    key_file = tmp_path / "key"
    key_file.write_text(credentials.key.reveal())
    (configured,) = pooled.configured.clusters
    own = dataclasses.replace(configured, user=USER, key=None, key_file=key_file, keyring=None)
    pool = connections.Connections(clusters_module.Config((own,)), timeout=10)
    with pool.use(driver.CLUSTER_ID) as first:
        pass
    (of_another_user,) = (each.credentials().key for each in pooled.configured.clusters)
    assert of_another_user
    key_file.write_text(of_another_user.reveal())
    with pool.use(driver.CLUSTER_ID) as second:
        assert second is first
        assert second.home().get_pool_name()
    with pytest.raises(errors.Unauthenticated):
        pool.get(driver.CLUSTER_ID, Credentials(USER, of_another_user))
    first.close()


def test_a_monitor_whose_name_is_not_found_is_no_wrong_key(
    pooled: connections.Connections, credentials: Credentials
) -> None:
    (configured,) = pooled.configured.clusters
    too_long = f"{'m' * 64}:6789"  # no resolver asks for it
    named = dataclasses.replace(configured, conf_file=None, monitors=(too_long,))
    with pytest.raises(errors.Unavailable, match="DNS"):
        Connection.open(named, credentials, 2)
    without_file = dataclasses.replace(configured, conf_file=Path("/nowhere/ceph.conf"))
    with pytest.raises(errors.Unavailable, match="/nowhere"):
        Connection.open(without_file, credentials, 2)
