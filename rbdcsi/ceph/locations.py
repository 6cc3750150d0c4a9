"""Locations: the pools and RADOS namespaces that hold images.

A location with volumes has one small object, which lists the name prefixes of their images. So a
list of volumes needs neither a journal of volumes nor the metadata of any image. The locations
themselves are known: one object at the cluster's home location lists them. So no pool is read that
has no volumes, and a sick pool of another program disturbs nothing.
"""

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, connections, omap
from rbdcsi.ceph.connection import Connection, Ioctx, Pool
from rbdcsi.ceph.images import Images
from rbdcsi.model import ids
from rbdcsi.runtime.futures import Future

MARKER = "rbdcsi.location"
PREFIX = "prefix."  # of the keys of that object
REGISTRY = "rbdcsi.locations"  # at the home location
_LOCATION = "location/"  # of its keys: pool number and namespace follow
_SEARCHED = "searched"  # its key that says when all pools were searched for locations


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
        return self.begin_prefixes().result()

    def begin_prefixes(self) -> Future[tuple[str, ...]]:
        """Begin to read `prefixes`."""
        reading = omap.Omap(self.ioctx, MARKER).begin_items(PREFIX)
        return reading.then(lambda keys: tuple(key.removeprefix(PREFIX) for key, _ in keys))

    def has_prefix(self, prefix: str) -> bool:
        """Return whether `add_prefix` has been called with this prefix."""
        return omap.Omap(self.ioctx, MARKER).get(PREFIX + prefix) is not None

    def add_prefix(self, prefix: str) -> None:
        """Record that volumes whose images have this name prefix may be here."""
        omap.Omap(self.ioctx, MARKER).put(PREFIX + prefix, "1")


class Registry:
    """The locations of one cluster that hold volumes or attachments, or held some.

    A location is added before anything is written into it, so none is missing.
    """

    def __init__(self, home: Ioctx, cluster_id: str) -> None:
        self._omap = omap.Omap(home, REGISTRY)
        self._cluster_id = cluster_id

    def all(self) -> list[ids.LocationId] | None:
        """Return the locations, sorted; None if the cluster was never searched for them.

        Older drivers registered none; see `volumes/search.py`.
        """
        keys = dict(self._omap.items())
        if _SEARCHED not in keys:
            return None
        return sorted(
            location_id(self._cluster_id, key.removeprefix(_LOCATION))
            for key in keys
            if key.startswith(_LOCATION)
        )

    def add(self, location: ids.LocationId) -> None:
        """Add a location; it may be there already."""
        key = registry_key(location)
        if self._omap.get(key) is None:
            self._omap.put(key, "1")

    def remove(self, location: ids.LocationId) -> None:
        """Remove a location whose pool is gone; Ceph uses no number of a pool twice."""
        self._omap.put(registry_key(location), None)

    def searched(self) -> str | None:
        """Return when the cluster was searched first, in ISO 8601 and UTC; None if never."""
        return self.begin_searched().result()

    def begin_searched(self) -> Future[str | None]:
        """Begin to read `searched`."""
        return self._omap.begin_get(_SEARCHED)

    def note_search(self, now: str) -> None:
        """Note that all locations were added, unless that was noted before."""
        self._omap.swap(_SEARCHED, None, now)


def registry_key(location: ids.LocationId) -> str:
    """Return the key of a location in the object of known locations."""
    return _LOCATION + location_key(location)


def location_key(location: ids.LocationId) -> str:
    """Return the text of pool and namespace in a key; see `location_id`."""
    return f"{location.pool_id}/{location.namespace}"


def location_id(cluster_id: str, key: str) -> ids.LocationId:
    """Return the location that `location_key` wrote."""
    pool_id, _, namespace = key.partition("/")
    return ids.LocationId(cluster_id, int(pool_id), namespace)


class Locations:
    """The locations of every configured cluster."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._registered: set[ids.LocationId] = set()
        self._mutex = threading.Lock()

    def open(self, connection: Connection, location_id: ids.LocationId) -> Location:
        """Return the location of an existing volume.

        Raises:
            NotFound: the pool does not exist.
        """
        ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
        with ceph_errors.translated("looking up pool number", location_id.pool_id):
            return Location(location_id, ioctx.get_pool_name(), ioctx)

    def find(self, connection: Connection, location_id: ids.LocationId) -> Location | None:
        """Return the location of a volume, None if the pool does not exist any more."""
        try:
            return self.open(connection, location_id)
        except errors.NotFound:
            return None

    def register(self, location: ids.LocationId) -> None:
        """Make a location known before something is written there, once in this process.

        The configured user does it: that of a call may have no right at the home location.

        Args:
            location: where something is about to be written.
        """
        if location in self._registered:
            return
        with self._connections.use(location.cluster_id) as connection:
            Registry(connection.home(), location.cluster_id).add(location)
        with self._mutex:
            self._registered.add(location)

    def known(self, cluster_id: str) -> list[ids.LocationId]:
        """Return the locations of a cluster that may hold volumes, sorted.

        Raises:
            Unavailable: the cluster, or a pool that may hold some, does not answer.
        """
        with self._connections.use(cluster_id) as connection:
            registered = Registry(connection.home(), cluster_id).all()
        if registered is not None:
            return registered
        with self._connections.use(cluster_id) as connection:
            return sorted(
                location.id
                for pool in connection.pools()
                for location in in_pool(connection, pool)
                if _holds_volumes(location)
            )


def _holds_volumes(location: Location) -> bool:
    try:
        return bool(location.prefixes())
    except (errors.Forbidden, errors.NotFound):  # the user is limited to other namespaces
        return False


def in_pool(connection: Connection, pool: Pool) -> Iterator[Location]:
    """Yield the pool and its RADOS namespaces; nothing if the user may not read it, or it is gone.

    Raises:
        Unavailable: the pool does not answer.
    """
    try:
        for namespace in ("", *connection.namespaces(pool)):
            location = ids.LocationId(connection.cluster_id, pool.pool_id, namespace)
            yield Location(location, pool.name, connection.ioctx(pool.pool_id, namespace))
    except (errors.Forbidden, errors.NotFound):
        return
