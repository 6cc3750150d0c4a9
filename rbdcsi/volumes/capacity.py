"""GetCapacity: what a pool can still take, by the monitors' own count and the pool's quota."""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.model import sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.volumes.placement import Placement


@dataclass(frozen=True)
class Usage:
    """Bytes of a pool: what is in it, each byte once, and what it still takes, quota included."""

    stored: int
    available: int


@dataclass(frozen=True)
class Capacity:
    """Bytes: what is free for data now, and the bounds for one volume."""

    available: int
    largest: int
    smallest: int


def of(
    pooled: connections.Connections,
    placement: Placement,
    given: Parameters,
    fs_type: str | None,
) -> Capacity:
    """Return the capacity of the pool that these parameters put data into.

    Images are thin: more may be promised than is free (Ceph documentation, "Erasure code", data
    goes to the data pool where there is one).

    Raises:
        InvalidRequest: cluster or pool is unknown.
        Unavailable: the pool is so new that Ceph has not counted it yet.
    """
    cluster_id = placement.cluster_of(given)
    with pooled.use(cluster_id) as connection:
        wanted = given.data_pool or given.pool or pooled.configured.cluster(cluster_id).pool
        try:
            pool = connection.pool_named(wanted)
        except errors.NotFound as error:
            raise errors.InvalidRequest(str(error)) from error
        found = usage(connection, pool.pool_id)
    if found is None:
        raise errors.Unavailable(
            f"cluster {cluster_id} has pool {wanted!r}, but no statistics of it; a new pool has "
            "them within seconds, else see whether a manager is active (`ceph mgr stat`)"
        )
    return Capacity(found.available, sizes.largest(given.object_bytes), sizes.smallest(fs_type))


def usage(connection: connections.Connection, pool_id: int) -> Usage | None:
    """Return how full a pool is; None: it is gone, or the manager has not reported it yet."""
    for pool in connection.command("df", detail="detail")["pools"]:
        if pool["id"] == pool_id:
            stats = pool["stats"]
            available, quota = stats["max_avail"], stats.get("quota_bytes")
            if quota:
                available = min(available, max(0, quota - stats["stored"]))
            return Usage(stats["stored"], available)
    return None
