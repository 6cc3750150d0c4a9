"""Finds the location of a new volume from the request's parameters, and prepares it once."""

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, objects, omap
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.model import ids
from rbdcsi.model.storage_class import Parameters
from rbdcsi.runtime.turns import Turns


class Placement:
    """Chooses and prepares locations for new volumes."""

    def __init__(self, pooled: connections.Connections, locations: Locations) -> None:
        self._connections = pooled
        self._locations = locations
        self._prepared: set[tuple[ids.LocationId, str]] = set()
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

    def location(self, connection: connections.Connection, parameters: Parameters) -> Location:
        """Return the location in the parameters, prepared for volumes.

        Raises:
            InvalidRequest: the pool, data pool or RADOS namespace does not exist.
        """
        cluster = self._connections.configured.cluster(connection.cluster_id)
        namespace = parameters.namespace
        if namespace is None:
            namespace = cluster.rados_namespace
        try:
            pool = connection.pool_named(parameters.pool or cluster.pool)
            if parameters.data_pool:
                connection.pool_named(parameters.data_pool)
        except errors.NotFound as error:
            raise errors.InvalidRequest(str(error)) from error
        location_id = ids.LocationId(connection.cluster_id, pool.pool_id, namespace)
        location = Location(location_id, pool.name, connection.ioctx(pool.pool_id, namespace))
        self._prepare(connection, location, parameters.name_prefix)
        return location

    def _prepare(self, connection: connections.Connection, location: Location, prefix: str) -> None:
        """Create the objects that later writes need even if the pool is full, once per process."""
        if (location.id, prefix) in self._prepared:
            return
        with self._preparing.take(location.id, f"another call that prepares pool {location.pool}"):
            _require_namespace(connection, location)
            self._locations.register(connection, location.id)
            if not location.has_prefix(prefix):
                omap.touch(location.ioctx, [objects.TRASH, *store.object_names()])
                location.add_prefix(prefix)
            self._prepared.add((location.id, prefix))


def _require_namespace(connection: connections.Connection, location: Location) -> None:
    namespace = location.id.namespace
    pool = connections.Pool(location.id.pool_id, location.pool)
    if namespace and namespace not in connection.namespaces(pool):
        raise errors.InvalidRequest(
            f"pool {location.pool} has no RADOS namespace {namespace!r}; create it with "
            f"`rbd namespace create {location.pool}/{namespace}`"
        )
