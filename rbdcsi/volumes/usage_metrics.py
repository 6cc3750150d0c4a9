"""Counts volumes, attachments and bytes for the metrics, once a minute."""

from collections import Counter
from dataclasses import dataclass, field

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
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

    def show(self) -> None:
        metrics.ATTACHMENTS.replace(self.attachments)
        metrics.VOLUMES.replace(self.volumes)
        metrics.DELETING.replace(self.deleting)
        metrics.POOL_STORED.replace(self.stored)
        metrics.POOL_AVAILABLE.replace(self.available)


class Census:
    """Counts what the metrics show of the clusters; without an answer of Ceph they show nothing."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._locations = locations.Locations(pooled)

    def take(self) -> float:
        """Count, and show it; returns the seconds until it is time to count again."""
        count = _Count()
        try:
            self._count(count)
        except errors.RbdCsiError as error:
            count = _Count()
            _log.warning("volumes not counted, to be repeated", error=str(error))
        count.show()
        return _PAUSE_SECONDS

    def _count(self, count: _Count) -> None:
        for place in self._locations.all():
            _count_volumes(place, count)
            with self._connections.use(place.id.cluster_id) as connection:
                pool = place.id.cluster_id, place.pool
                usage = capacity.usage(connection, place.id.pool_id)
                if usage is not None:
                    count.stored[pool], count.available[pool] = usage.stored, usage.available


def _count_volumes(place: locations.Location, count: _Count) -> None:
    where = place.id.cluster_id, place.pool, place.id.namespace
    prefixes = place.prefixes()
    count.volumes[where] = sum(name.startswith(prefixes) for _, name in Images(place.ioctx).all())
    count.deleting[where] = 0
    for _, record in store.Records(place.ioctx).all():
        count.deleting[where] += record.deleting is not None
        for node, held in record.attachments.items():
            count.attachments[place.id.cluster_id, node, held.state.value] += 1
