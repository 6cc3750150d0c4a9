"""In which locations a node has volumes, or had some: keys of the object that its plugin watches.

A key is written before the first attachment, and goes with the node. So the volumes of a node are
found without reading every location, and a sick one in which the node has none does not matter.
"""

from rbdcsi.ceph import connections, locations, omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import ids
from rbdcsi.nodes.presence import object_name
from rbdcsi.runtime.futures import Future

_LOCATION = "location/"


class NodeLocations:
    """The locations of one node in one cluster."""

    def __init__(self, home: Ioctx, cluster_id: str, node_id: str) -> None:
        """Read and write those of a node.

        Args:
            home: the cluster's home location.
            cluster_id: the cluster.
            node_id: the node.
        """
        self._omap = omap.Omap(home, object_name(node_id))
        self._cluster_id = cluster_id

    def begin_has(self, location: ids.LocationId) -> Future[bool]:
        """Begin to read whether a location was added."""
        reading = self._omap.begin_get(_LOCATION + locations.location_key(location))
        return reading.then(lambda value: value is not None)

    def add(self, location: ids.LocationId) -> None:
        """Add a location; it may be there already."""
        self._omap.put(_LOCATION + locations.location_key(location), "1")

    def all(self) -> list[ids.LocationId]:
        """Return the locations that were added."""
        return [
            locations.location_id(self._cluster_id, key.removeprefix(_LOCATION))
            for key, _ in self._omap.items(_LOCATION)
        ]


def locations_of(
    pooled: connections.Connections, every: locations.Locations, cluster_id: str, node_id: str
) -> list[ids.LocationId]:
    """Return the locations of a cluster in which a node may have volumes.

    Args:
        pooled: the connections.
        every: all locations; they are taken until the cluster was searched for those of nodes.
        cluster_id: the cluster.
        node_id: the node.

    Raises:
        Unavailable: the cluster does not answer.
    """
    with pooled.use(cluster_id) as connection:
        home = connection.home()
        if locations.Registry(home, cluster_id).searched() is None:
            return every.known(cluster_id)
        return NodeLocations(home, cluster_id, node_id).all()
