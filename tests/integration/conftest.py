"""Fixtures of the tests that drive the real driver over its sockets on the real cluster."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from e2e import clusters, driver


@pytest.fixture(scope="module")
def further_pools() -> Sequence[str]:
    """Give the names of pools that the driver may use beside `pool`; a module may have its own."""
    return ()


@pytest.fixture(scope="module")
def second_pool(cluster: clusters.Cluster) -> Iterator[str]:
    """Give the name of a pool beside `pool`, where the driver has made no volume."""
    name = f"second-{uuid.uuid4().hex[:8]}"
    cluster.create_pool(name)
    yield name
    cluster.delete_pool(name)


@pytest.fixture(scope="module")
def installation(
    cluster: clusters.Cluster,
    pool: str,
    further_pools: Sequence[str],
    temporary: Path,
    program: Sequence[str],
) -> Iterator[driver.Installation]:
    """Give the driver configured for this module's pool."""
    with (
        tempfile.TemporaryDirectory(prefix="d", dir=temporary) as directory,
        driver.installed(
            cluster, Path(directory), pool, further_pools=further_pools, program=program
        ) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def controller(installation: driver.Installation) -> driver.Driver:
    """Give a running controller that this module's tests share."""
    return installation.controller().start()


@pytest.fixture(scope="module")
def nodes(installation: driver.Installation) -> tuple[driver.Driver, driver.Driver]:
    """Give two running nodes, `node-a` and `node-b`, that this module's tests share."""
    a, b = (installation.node(f"node-{letter}").start() for letter in "ab")
    return a, b
