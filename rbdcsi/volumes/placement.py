"""Finds the location of a new volume from the request's parameters, and prepares it once."""

import contextlib
from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import ceph_errors, connections, objects, omap, rights
from rbdcsi.ceph.connection import Connection, Pool
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.model import ids
from rbdcsi.model.storage_class import Parameters
from rbdcsi.runtime.turns import Turns


class Placement:
    """Chooses and prepares locations for new volumes."""

    def __init__(self, pooled: connections.Connections, locations: Locations) -> None:
        """Choose among all locations of the configured clusters."""
        self._connections = pooled
        self.locations = locations
        self._prepared: set[tuple[ids.LocationId, str, Pool | None]] = set()
        self._preparing = Turns(1)

    def cluster_of(self, parameters: Parameters) -> str:
        """Return the clusterID in the parameters, otherwise the only configured cluster.

        Raises:
            InvalidRequest: the cluster is not configured, or none is named and several are
                configured.
        """
        cluster_ids = [cluster.cluster_id for cluster in self._connections.configured.clusters]
        if parameters.cluster_id is None and len(cluster_ids) > 1:
            raise errors.InvalidRequest(
                "parameter clusterID is missing, and several clusters are configured; set it to "
                f"one of {', '.join(cluster_ids)}"
            )
        cluster_id = parameters.cluster_id or cluster_ids[0]
        return self._connections.configured.cluster(cluster_id).cluster_id

    def location(self, connection: Connection, parameters: Parameters) -> Location:
        """Return the location in the parameters, prepared for volumes.

        Args:
            connection: that of the call's user.
            parameters: the StorageClass's parameters.

        Raises:
            InvalidRequest: the pool, data pool or RADOS namespace does not exist, the pool is
                erasure-coded, or the data pool allows no overwrites.
            Forbidden: the configured user may not work there, although it must delete the volume's
                data later, keep its records and unstage it.
        """
        location, data_pool = self._find(connection, parameters)
        self._prepare(location, parameters.name_prefix, data_pool)
        return location

    def find(self, connection: Connection, parameters: Parameters) -> Location:
        """Return the location in the parameters, as it is; nothing is written.

        Raises:
            InvalidRequest: the pool or data pool does not exist.
        """
        return self._find(connection, parameters)[0]

    def _find(self, connection: Connection, parameters: Parameters) -> tuple[Location, Pool | None]:
        """Return the location and the data pool in the parameters."""
        cluster = self._connections.configured.cluster(connection.cluster_id)
        namespace = parameters.namespace
        if namespace is None:
            namespace = cluster.rados_namespace
        try:
            pool = connection.pool_named(parameters.pool or cluster.pool)
            name = parameters.data_pool
            data_pool = connection.pool_named(name) if name else None
        except errors.NotFound as error:
            raise errors.InvalidRequest(str(error)) from error
        location_id = ids.LocationId(connection.cluster_id, pool.pool_id, namespace)
        ioctx = connection.ioctx(pool.pool_id, namespace)
        return Location(location_id, pool.name, ioctx), data_pool

    def _prepare(self, location: Location, prefix: str, data_pool: Pool | None) -> None:
        """Create the objects that later writes need even if the pool is full, once per process."""
        key = (location.id, prefix, data_pool)
        if key in self._prepared:
            return
        with self._preparing.take(location.id, f"another call that prepares pool {location.pool}"):
            with self._connections.use(location.id.cluster_id) as own_connection:
                _require_rights(own_connection, location, data_pool)
                _require_overwrites(own_connection, data_pool)
                _require_namespace(own_connection, location)
                self.locations.register(location.id)
            if not location.has_prefix(prefix):
                with _named(location.pool):
                    omap.touch(location.ioctx, [objects.TRASH, *store.object_names()])
                location.add_prefix(prefix)
            self._prepared.add(key)


@contextlib.contextmanager
def _named(pool: str) -> Iterator[None]:
    """Name the pool in the error of an erasure-coded one."""
    try:
        yield
    except ceph_errors.NoOmap as error:
        raise errors.InvalidRequest(f"pool {pool!r} cannot hold images: {error}") from error


def _require_rights(connection: Connection, location: Location, data_pool: Pool | None) -> None:
    """Refuse a location in which the configured user may not do what the driver does by itself."""
    namespace = location.id.namespace
    ioctx = connection.ioctx(location.id.pool_id, namespace)
    lacking = [] if rights.may_change_images(ioctx) else [location.pool]
    if data_pool and not rights.may_remove_data(connection.ioctx(data_pool.pool_id, namespace)):
        lacking.append(data_pool.name)
    if lacking:
        part = f" namespace={namespace}" if namespace else ""
        caps = ", ".join(f"profile rbd pool={pool}{part}" for pool in lacking)
        raise errors.Forbidden(
            f"client.{connection.user} of the driver's configuration may not change images in pool "
            f"{', '.join(lacking)}: it keeps their records and removes deleted data, also of "
            f"volumes that a StorageClass's Secret makes; give it osd '{caps}' (`ceph auth caps`)"
        )


def _require_overwrites(connection: Connection, data_pool: Pool | None) -> None:
    if data_pool and not connection.allows_overwrites(data_pool):
        raise errors.InvalidRequest(
            f"data pool {data_pool.name!r} is erasure-coded and does not allow overwrites, which "
            f"images need; run `ceph osd pool set {data_pool.name} allow_ec_overwrites true`"
        )


def _require_namespace(connection: Connection, location: Location) -> None:
    namespace = location.id.namespace
    pool = Pool(location.id.pool_id, location.pool)
    if namespace and namespace not in connection.namespaces(pool):
        raise errors.InvalidRequest(
            f"pool {location.pool} has no RADOS namespace {namespace!r}; create it with "
            f"`rbd namespace create {location.pool}/{namespace}`"
        )
