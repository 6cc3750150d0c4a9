"""Ceph clusters for tests, by name.

    with clusters.start("local") as cluster:
        cluster.create_pool("volumes")

`local` is made on this machine for the run (see `local`); `microceph` is one that the snap made.
"""

import contextlib
from collections.abc import Callable, Mapping

from e2e.clusters import local, microceph
from e2e.clusters.cluster import Cluster, Daemons, driver_caps
from rbdcsi import errors

KINDS: Mapping[str, Callable[[], contextlib.AbstractContextManager[Cluster]]] = {
    "local": local.LocalCluster,
    "microceph": microceph.connected,
}

__all__ = ["KINDS", "Cluster", "Daemons", "driver_caps", "start"]


def start(name: str) -> contextlib.AbstractContextManager[Cluster]:
    """Return the cluster of that name, which runs while its context is open.

    Raises:
        InvalidRequest: the name is unknown.
    """
    try:
        return KINDS[name]()
    except KeyError:
        raise errors.InvalidRequest(
            f"no kind of cluster is called {name!r}: choose from {', '.join(KINDS)}"
        ) from None
