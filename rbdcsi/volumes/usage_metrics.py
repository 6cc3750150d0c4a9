"""Counts volumes, attachments and bytes for the metrics, once a minute."""

from collections import Counter
from dataclasses import dataclass, field

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.attachments.records import State
from rbdcsi.ceph import connections, locations
from rbdcsi.nodes import presence
from rbdcsi.telemetry import metrics
from rbdcsi.volumes import capacity

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0


@dataclass
class _Count:
    attachments: Counter[tuple[str, ...]] = field(default_factory=Counter)
    volumes: dict[tuple[str, ...], float] = field(default_factory=dict)
    deleting: dict[tuple[str, ...], float] = field(default_factory=dict)
    stored: dict[tuple[str, ...], float] = field(default_factory=dict)
    available: dict[tuple[str, ...], float] = field(default_factory=dict)

    without_node: dict[tuple[str, ...], float] = field(default_factory=dict)

    def show(self) -> None:
        metrics.WITHOUT_NODE.replace(self.without_node)
        metrics.ATTACHMENTS.replace(self.attachments)
        metrics.VOLUMES.replace(self.volumes)
        metrics.DELETING.replace(self.deleting)
        metrics.POOL_STORED.replace(self.stored)
        metrics.POOL_AVAILABLE.replace(self.available)


class Census:
    """Sets the metrics about volumes; if a cluster does not answer, it removes their values."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._locations = locations.Locations(pooled)

    def take(self) -> float:
        """Count and set the metrics; return the seconds until the next count is due."""
        count = _Count()
        try:
            self._count(count)
        except errors.RbdCsiError as error:
            count = _Count()
            _log.warning("volumes not counted for the metrics, to be repeated", error=str(error))
        count.show()
        return _PAUSE_SECONDS

    def _count(self, count: _Count) -> None:
        for location in self._locations.all():
            _count_volumes(location, count)
            with self._connections.use(location.id.cluster_id) as connection:
                pool = location.id.cluster_id, location.pool
                usage = capacity.usage(connection, location.id.pool_id)
                if usage is not None:
                    count.stored[pool], count.available[pool] = usage.stored, usage.available
        for (cluster_id, node, state), volumes in count.attachments.items():
            if state == State.STAGED.value:
                with self._connections.use(cluster_id) as connection:
                    lives = presence.lives(connection.home(), node)
                count.without_node[cluster_id, node] = 0 if lives else volumes


def _count_volumes(location: locations.Location, count: _Count) -> None:
    labels = location.id.cluster_id, location.pool, location.id.namespace
    prefixes = location.prefixes()
    count.volumes[labels] = sum(name.startswith(prefixes) for _, name in location.images.all())
    count.deleting[labels] = 0
    for _, record in store.Records(location.ioctx).all():
        count.deleting[labels] += record.deleting is not None
        for node, attachment in record.attachments.items():
            count.attachments[location.id.cluster_id, node, attachment.state.value] += 1
