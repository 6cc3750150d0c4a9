"""The pool of connections in this process: clients of calls' own users end when they are idle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import clusters, driver
from e2e.clusters import controller_caps
from rbdcsi.ceph import connections
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
