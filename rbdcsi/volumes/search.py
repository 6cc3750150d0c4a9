"""Finds the locations of volumes that an older driver made, and makes them known, once.

Older drivers registered neither locations nor those of a node, and looked into every pool. The
search is repeated for a day, because a controller of an older driver may run beside this one.
"""

import contextlib
from datetime import UTC, datetime, timedelta

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.connection import Connection
from rbdcsi.nodes.locations import NodeLocations
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps

_log = structlog.get_logger()

_REPEAT = timedelta(days=1)  # after the first complete search
_PAUSE_SECONDS = 3600.0
_RETRY_SECONDS = 60.0


class LocationSearch:
    """Searches one cluster; controllers that do so at the same time write the same."""

    def __init__(self, cluster_id: str, pooled: connections.Connections) -> None:
        self._cluster_id = cluster_id
        self._connections = pooled

    def run(self) -> float:
        """Search if that is due; return the seconds until the next look."""
        try:
            with self._connections.use(self._cluster_id) as connection:
                registry = locations.Registry(connection.home(), self._cluster_id)
                first = registry.searched()
                if first and datetime.now(UTC) - datetime.fromisoformat(first) > _REPEAT:
                    return _PAUSE_SECONDS
                if not self._search(connection, registry):
                    return _RETRY_SECONDS
                registry.note_search(clock.now())
        except errors.RbdCsiError as error:
            _log.warning(
                "cluster not searched for locations of volumes, to be repeated",
                cluster=self._cluster_id,
                error=str(error),
            )
            return _RETRY_SECONDS
        return _PAUSE_SECONDS

    def _search(self, connection: Connection, registry: locations.Registry) -> bool:
        """Register the locations of every pool; return whether every pool could be read."""
        complete = True
        for pool in connection.pools():
            try:
                for location in locations.in_pool(connection, pool):
                    with contextlib.suppress(errors.Forbidden, errors.NotFound):
                        self._register(connection, registry, location)
            except errors.Unavailable as error:
                complete = False
                _log.warning(
                    "pool not searched for volumes, to be repeated",
                    cluster=self._cluster_id,
                    pool=pool.name,
                    error=str(error),
                )
        return complete

    def _register(
        self,
        connection: Connection,
        registry: locations.Registry,
        location: locations.Location,
    ) -> None:
        nodes = store.Records(location.ioctx).nodes()
        if not nodes and not location.prefixes():
            return
        registry.add(location.id)
        for node_id in nodes:
            node = NodeLocations(connection.home(), self._cluster_id, node_id)
            if not node.begin_has(location.id).result():
                node.add(location.id)
        steps.done("location.search", cluster=self._cluster_id, pool=location.pool)
