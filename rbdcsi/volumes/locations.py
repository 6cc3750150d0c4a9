"""Where volumes can be: finding a request's place, preparing it once, and finding all of them.

A location that holds volumes carries one small object, which names the prefixes of its images: so
listing needs neither a journal of volumes nor a look into any image.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, header, omap, translate
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.model.storage_class import Parameters

MARKER = "rbdcsi.location"
_PREFIX = "prefix."


@dataclass(frozen=True)
class Place:
    """An opened location, with its pool's name for people."""

    location: ids.Location
    pool: str
    ioctx: connections.Ioctx

    def prefixes(self) -> tuple[str, ...]:
        """Return the name prefixes of the images made here; none if this is no place of ours."""
        found = omap.Omap(self.ioctx, MARKER).items(_PREFIX)
        return tuple(key.removeprefix(_PREFIX) for key, _ in found)


class Locations:
    """Locations by request, by handle, and all."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._prepared: set[tuple[ids.Location, str]] = set()
        self._preparing = threading.Lock()

    def cluster_of(self, given: Parameters) -> str:
        """Return the clusterID asked for, or the only one there is.

        Raises:
            InvalidRequest: unknown, or not given although several are configured.
        """
        known = [cluster.cluster_id for cluster in self._connections.configured.clusters]
        if given.cluster_id is None and len(known) > 1:
            raise errors.InvalidRequest(
                f"parameter clusterID is missing; the driver knows {', '.join(known)}"
            )
        return self._connections.configured.cluster(given.cluster_id or known[0]).cluster_id

    def for_request(self, connection: connections.Connection, given: Parameters) -> Place:
        """Return the place that parameters ask for, prepared for volumes.

        Raises:
            InvalidRequest: the pool, data pool or RADOS namespace does not exist.
        """
        cluster = self._connections.configured.cluster(connection.cluster_id)
        namespace = cluster.rados_namespace if given.namespace is None else given.namespace
        try:
            pool = connection.pool_named(given.pool or cluster.pool)
            if given.data_pool:
                connection.pool_named(given.data_pool)
        except errors.NotFound as error:
            raise errors.InvalidRequest(str(error)) from error
        location = ids.Location(connection.cluster_id, pool.pool_id, namespace)
        place = Place(location, pool.name, connection.ioctx(pool.pool_id, namespace))
        self._prepare(connection, place, given.name_prefix)
        return place

    def of(self, connection: connections.Connection, location: ids.Location) -> Place:
        """Return the place of an existing volume.

        Raises:
            NotFound: the pool is gone.
        """
        ioctx = connection.ioctx(location.pool_id, location.namespace)
        with translate.translated("looking up pool number", location.pool_id):
            return Place(location, ioctx.get_pool_name(), ioctx)

    def all(self, credentials: Credentials | None = None) -> Iterator[Place]:
        """Yield every place that may hold volumes, in a fixed order.

        Pools that the user may not read, or that vanish meanwhile, hold none of ours.

        Raises:
            Unavailable: a cluster does not answer: it cannot be told what is there.
        """
        for cluster in sorted(self._connections.configured.clusters, key=lambda c: c.cluster_id):
            yield from self.of_cluster(cluster.cluster_id, credentials)

    def of_cluster(
        self, cluster_id: str, credentials: Credentials | None = None
    ) -> Iterator[Place]:
        """Yield the places of one cluster; see `all`."""
        with self._connections.use(cluster_id, credentials) as connection:
            for pool in sorted(connection.pools(), key=lambda p: p.pool_id):
                yield from _places_in(connection, pool)

    def _prepare(self, connection: connections.Connection, place: Place, prefix: str) -> None:
        """Make, once, the objects that later writes need even when the pool is full."""
        if (place.location, prefix) in self._prepared:
            return
        with self._preparing:
            _require_namespace(connection, place)
            marker = omap.Omap(place.ioctx, MARKER)
            if marker.get(_PREFIX + prefix) is None:
                omap.touch(place.ioctx, [header.TRASH, *store.object_names()])
                marker.put(_PREFIX + prefix, "1")
            self._prepared.add((place.location, prefix))


def _places_in(connection: connections.Connection, pool: connections.Pool) -> Iterator[Place]:
    try:
        for namespace in ("", *connection.namespaces(pool)):
            location = ids.Location(connection.cluster_id, pool.pool_id, namespace)
            place = Place(location, pool.name, connection.ioctx(pool.pool_id, namespace))
            if place.prefixes():
                yield place
    except (errors.Forbidden, errors.NotFound):
        return


def _require_namespace(connection: connections.Connection, place: Place) -> None:
    namespace = place.location.namespace
    pool = connections.Pool(place.location.pool_id, place.pool)
    if namespace and namespace not in connection.namespaces(pool):
        raise errors.InvalidRequest(
            f"pool {place.pool} has no RADOS namespace {namespace!r}; create it with "
            f"`rbd namespace create {place.pool}/{namespace}`"
        )
