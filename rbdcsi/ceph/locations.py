"""Locations: the pools and RADOS namespaces that hold images. Verbs: open one by id, or list all.

A location with volumes has one small object, which lists the name prefixes of their images. So a
list of volumes needs neither a journal of volumes nor the metadata of any image.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, connections, omap
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids

MARKER = "rbdcsi.location"
PREFIX = "prefix."  # of the keys of that object


@dataclass(frozen=True)
class Location:
    """An open location: its id, the name of its pool, and its I/O context."""

    id: ids.LocationId
    pool: str
    ioctx: rados.Ioctx

    @functools.cached_property
    def images(self) -> Images:
        """The images of this location."""
        return Images(self.ioctx)

    def prefixes(self) -> tuple[str, ...]:
        """Return the name prefixes of the volumes that were made here; empty if there are none."""
        keys = omap.Omap(self.ioctx, MARKER).items(PREFIX)
        return tuple(key.removeprefix(PREFIX) for key, _ in keys)

    def has_prefix(self, prefix: str) -> bool:
        """Return whether `add_prefix` has been called with this prefix."""
        return omap.Omap(self.ioctx, MARKER).get(PREFIX + prefix) is not None

    def add_prefix(self, prefix: str) -> None:
        """Record that volumes whose images have this name prefix may be here."""
        omap.Omap(self.ioctx, MARKER).put(PREFIX + prefix, "1")


class Locations:
    """The locations of every configured cluster."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled

    def open(self, connection: connections.Connection, location_id: ids.LocationId) -> Location:
        """Return the location of an existing volume.

        Raises:
            NotFound: the pool does not exist.
        """
        ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
        with ceph_errors.translated("looking up pool number", location_id.pool_id):
            return Location(location_id, ioctx.get_pool_name(), ioctx)

    def all(self, credentials: Credentials | None = None) -> Iterator[Location]:
        """Yield every location that may hold volumes, in a fixed order.

        It omits pools that the user may not read, and pools that are removed during the call.

        Raises:
            Unavailable: a cluster does not answer, so the list would be incomplete.
        """
        clusters = self._connections.configured.clusters
        for cluster in sorted(clusters, key=lambda cluster: cluster.cluster_id):
            yield from self.of_cluster(cluster.cluster_id, credentials)

    def of_cluster(
        self, cluster_id: str, credentials: Credentials | None = None
    ) -> Iterator[Location]:
        """Yield the locations of one cluster; see `all`."""
        with self._connections.use(cluster_id, credentials) as connection:
            for pool in sorted(connection.pools(), key=lambda pool: pool.pool_id):
                yield from _locations_in(connection, pool)


def _locations_in(connection: connections.Connection, pool: connections.Pool) -> Iterator[Location]:
    with contextlib.suppress(errors.Forbidden, errors.NotFound):
        for namespace in ("", *connection.namespaces(pool)):
            location_id = ids.LocationId(connection.cluster_id, pool.pool_id, namespace)
            location = Location(location_id, pool.name, connection.ioctx(pool.pool_id, namespace))
            with contextlib.suppress(errors.Forbidden):  # the user is limited to other namespaces
                if location.prefixes():
                    yield location
