"""Counts volumes, attachments and bytes for the metrics, once a minute."""

import time
from collections import Counter
from dataclasses import dataclass, field

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.attachments.records import State
from rbdcsi.ceph import ceph_errors, connections, locations
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.model import ids, image_names
from rbdcsi.nodes import presence
from rbdcsi.telemetry import metrics
from rbdcsi.volumes import capacity

_log = structlog.get_logger()

_PAUSE_SECONDS = 60.0
_SHARE = 20  # the pause is at least so many times as long as the count


@dataclass
class _Count:
    attachments: Counter[tuple[str, ...]] = field(default_factory=Counter)
    volumes: dict[tuple[str, ...], float] = field(default_factory=dict)
    deleting: dict[tuple[str, ...], float] = field(default_factory=dict)
    ready: dict[tuple[str, ...], float] = field(default_factory=dict)
    stored: dict[tuple[str, ...], float] = field(default_factory=dict)
    available: dict[tuple[str, ...], float] = field(default_factory=dict)
    without_node: dict[tuple[str, ...], float] = field(default_factory=dict)

    def show(self, cluster_id: str) -> None:
        metrics.WITHOUT_NODE.replace(cluster_id, self.without_node)
        metrics.ATTACHMENTS.replace(cluster_id, self.attachments)
        metrics.VOLUMES.replace(cluster_id, self.volumes)
        metrics.DELETING.replace(cluster_id, self.deleting)
        metrics.LOCATION_READY.replace(cluster_id, self.ready)
        metrics.POOL_STORED.replace(cluster_id, self.stored)
        metrics.POOL_AVAILABLE.replace(cluster_id, self.available)


class Census:
    """Sets the metrics about the volumes of one cluster.

    If the cluster does not answer, it removes their values; of a location that does not answer,
    those of that location.
    """

    def __init__(self, cluster_id: str, pooled: connections.Connections) -> None:
        self._cluster_id = cluster_id
        self._connections = pooled
        self._locations = locations.Locations(pooled)

    def take(self) -> float:
        """Count and set the metrics; return the seconds until the next count is due."""
        count, begun = _Count(), time.monotonic()
        try:
            with self._connections.use(self._cluster_id) as connection:
                self._count(connection, count)
        except errors.RbdCsiError as error:
            count = _Count()
            _log.warning(
                "volumes not counted for the metrics, to be repeated",
                cluster=self._cluster_id,
                error=str(error),
            )
        count.show(self._cluster_id)
        return max(_PAUSE_SECONDS, _SHARE * (time.monotonic() - begun))

    def _count(self, connection: Connection, count: _Count) -> None:
        sick, pools = SickPools(_PAUSE_SECONDS), dict[int, str]()
        names = {pool.pool_id: pool.name for pool in connection.pools()}
        for location_id in self._locations.known(self._cluster_id):
            name = names.get(location_id.pool_id)
            if name is None:  # the pool is gone
                continue
            labels = self._cluster_id, name, location_id.namespace
            try:
                count.ready[labels] = self._count_at(connection, location_id, labels, count, sick)
            except errors.NotFound:  # the pool is gone by now
                continue
            if count.ready[labels]:
                pools[location_id.pool_id] = name
        self._count_bytes(connection, pools, count)
        self._count_without_node(connection, count)

    def _count_at(
        self,
        connection: Connection,
        location_id: ids.LocationId,
        labels: tuple[str, str, str],
        count: _Count,
        sick: SickPools,
    ) -> bool:
        """Count the volumes of a location; return whether it can be read."""
        if location_id in sick:
            return False
        try:
            _count_volumes(self._locations.open(connection, location_id), labels, count)
        except ceph_errors.ConnectionLost:
            raise
        except errors.Unavailable as error:
            sick.add(location_id, error, "its volumes are not counted")
            return False
        except (errors.Forbidden, errors.Failed) as error:  # a record may be damaged
            _log.warning("volumes of a pool not counted", pool=labels[1], error=str(error))
            return isinstance(error, errors.Failed)
        return True

    def _count_bytes(self, connection: Connection, pools: dict[int, str], count: _Count) -> None:
        usages = capacity.usages(connection) if pools else {}
        for pool_id, name in pools.items():
            if usage := usages.get(pool_id):
                labels = self._cluster_id, name
                count.stored[labels], count.available[labels] = usage.stored, usage.available

    def _count_without_node(self, connection: Connection, count: _Count) -> None:
        for (cluster_id, node, state), volumes in count.attachments.items():
            if state == State.STAGED.value:
                lives = presence.lives(connection.home(), node)
                count.without_node[cluster_id, node] = 0 if lives else volumes


def _count_volumes(location: locations.Location, labels: tuple[str, ...], count: _Count) -> None:
    prefixes = location.prefixes()
    count.volumes[labels] = sum(
        name.startswith(prefixes) and name != image_names.deleted_name(image_id)
        for image_id, name in location.images.all()
    )
    count.deleting[labels] = 0
    for _, record in store.Records(location.ioctx).all():
        count.deleting[labels] += record.deleting is not None
        for node, attachment in record.attachments.items():
            count.attachments[location.id.cluster_id, node, attachment.state.value] += 1
