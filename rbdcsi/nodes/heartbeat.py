"""Writes this node's record to every cluster, at start and then once a minute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

import rbdcsi
from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.nodes import registry
from rbdcsi.runtime import clock

_log = structlog.get_logger()

_HEARTBEAT_SECONDS = 60.0
_RETRY_SECONDS = 2.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4): new at each boot


@dataclass(frozen=True)
class NodeFacts:
    """The facts of a node record that come from the driver's options and the host's mappers."""

    node_id: str
    max_volumes: int
    topology: Mapping[str, str]
    mappers: tuple[str, ...]


class Registration:
    """Registers this node in every configured cluster."""

    def __init__(
        self,
        pooled: connections.Connections,
        facts: NodeFacts,
        now: Callable[[], str] = clock.now,
    ) -> None:
        self._connections = pooled
        self._facts = facts
        self._now = now

    def renew(self) -> float:
        """Write the record with the current time as `last_seen`.

        Returns the seconds until the next call is due.
        """
        written = [self._register(c.cluster_id) for c in self._connections.configured.clusters]
        return _HEARTBEAT_SECONDS if all(written) else _RETRY_SECONDS

    def _register(self, cluster_id: str) -> bool:
        try:
            with self._connections.use(cluster_id) as connection:
                registry.Nodes(connection.home()).register(self._record(connection))
        except errors.RbdCsiError as error:
            _log.warning(
                "node not registered in a cluster; the driver tries again",
                cluster=cluster_id,
                error=str(error),
            )
            return False
        return True

    def _record(self, connection: connections.Connection) -> registry.NodeRecord:
        return registry.NodeRecord(
            node_id=self._facts.node_id,
            addresses=(connection.address(),),
            boot_id=_BOOT_ID.read_text().strip(),
            driver_version=rbdcsi.__version__,
            last_seen=self._now(),
            max_volumes=self._facts.max_volumes,
            mappers=self._facts.mappers,
            topology=dict(self._facts.topology),
        )
