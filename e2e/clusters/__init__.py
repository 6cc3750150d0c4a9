"""Ceph clusters for tests, by name.

    with clusters.start("local") as cluster:
        cluster.create_pool("volumes")

`local` is made on this machine for the run; `like-microceph`, too, in the shape that MicroCeph
gives a cluster (see `local`); `microceph` is one that the snap made; `existing` is any.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping

from e2e import errors
from e2e.clusters import existing, local, microceph
from e2e.clusters.caps import controller_caps, node_caps
from e2e.clusters.cluster import Cluster, Daemons

KINDS: Mapping[str, Callable[[], contextlib.AbstractContextManager[Cluster]]] = {
    "local": local.LocalCluster,
    "like-microceph": functools.partial(local.LocalCluster, like_microceph=True),
    "microceph": microceph.connected,
    "existing": existing.connected,
}

__all__ = ["KINDS", "Cluster", "Daemons", "controller_caps", "node_caps", "start"]


def start(name: str | None = None) -> contextlib.AbstractContextManager[Cluster]:
    """Return the cluster of that name, which runs while its context is open.

    Args:
        name: a key of `KINDS`; None takes what RBDCSI_TEST_CLUSTER says, `local` if nothing.

    Raises:
        Unavailable: the name is unknown.
    """
    name = name or os.environ.get("RBDCSI_TEST_CLUSTER") or "local"
    try:
        return KINDS[name]()
    except KeyError:
        raise errors.Unavailable(
            f"no kind of cluster is called {name!r}: choose from {', '.join(KINDS)}"
        ) from None
