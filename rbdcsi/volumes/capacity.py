"""GetCapacity: the free space of a pool, from the monitors' statistics and the pool's quota."""

from collections.abc import Mapping
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.ceph.connection import Connection
from rbdcsi.model import sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.volumes.placement import Placement


@dataclass(frozen=True)
class Usage:
    """Bytes of a pool: stored data without replicas, and free space within the quota."""

    stored: int
    available: int


@dataclass(frozen=True)
class Capacity:
    """The free bytes of a pool, and the smallest and largest size of one volume in bytes."""

    available: int
    largest: int
    smallest: int


def pool_capacity(
    pooled: connections.Connections,
    placement: Placement,
    parameters: Parameters,
    fs_type: str | None,
) -> Capacity:
    """Return the capacity of the pool that holds the data of volumes with these parameters.

    That is the data pool if there is one (Ceph documentation, "Erasure code"). Images are thin, so
    the sum of the volumes' sizes may exceed the capacity.

    Args:
        pooled: the connections.
        placement: finds the cluster.
        parameters: the StorageClass's parameters.
        fs_type: the filesystem of the volumes; None for raw block use only.

    Raises:
        InvalidRequest: the cluster or the pool does not exist.
        Unavailable: the pool is so new that Ceph has no statistics of it yet.
    """
    cluster_id = placement.cluster_of(parameters)
    default_pool = pooled.configured.cluster(cluster_id).pool
    name = parameters.data_pool or parameters.pool or default_pool
    with pooled.use(cluster_id) as connection:
        try:
            pool = connection.pool_named(name)
        except errors.NotFound as error:
            raise errors.InvalidRequest(str(error)) from error
        pool_usage = usage(connection, pool.pool_id)
    if pool_usage is None:
        raise errors.Unavailable(
            f"cluster {cluster_id} has no statistics of pool {name!r}; a new pool has them within "
            "seconds, otherwise check that a manager is active (`ceph mgr stat`)"
        )
    return Capacity(
        pool_usage.available, sizes.largest(parameters.object_bytes), sizes.smallest(fs_type)
    )


def usage(connection: Connection, pool_id: int) -> Usage | None:
    """Return the usage of a pool, None if the pool does not exist or has no statistics yet."""
    return usages(connection).get(pool_id)


def usages(connection: Connection) -> dict[int, Usage]:
    """Return the usage of every pool that has statistics, by the pool's number."""
    pools = connection.command("df", detail="detail")["pools"]
    return {pool["id"]: _usage(pool["stats"]) for pool in pools}


def _usage(stats: Mapping[str, int]) -> Usage:
    available, quota = stats["max_avail"], stats.get("quota_bytes")
    if quota:
        available = min(available, max(0, quota - stats["stored"]))
    return Usage(stats["stored"], available)
