"""Registers this node in every cluster, at start and then once a minute.

A node id belongs to one machine. A machine takes over the id of another one only if no plugin of
that one watches the node's object any more.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

import rbdcsi
from rbdcsi import errors
from rbdcsi.ceph import connections
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.watch import Watch
from rbdcsi.host.machine import Machine
from rbdcsi.nodes import presence, registry
from rbdcsi.runtime import clock

_log = structlog.get_logger()

_HEARTBEAT_SECONDS = 60.0
_RETRY_SECONDS = 2.0
_TRIES = 5
_BOOTS = 16  # that the record keeps
_REFUSED_AGAIN = timedelta(seconds=60)  # a machine that is refused notes it so often
_REFUSED_LATELY = timedelta(seconds=150)  # an older note is removed


@dataclass(frozen=True)
class NodeFacts:
    """The facts of a node record that come from the driver's options and the host."""

    node_id: str
    machine: Machine
    max_volumes: int
    topology: Mapping[str, str]
    mappers: tuple[str, ...]
    allowed_watchers: tuple[str, ...] = ()


class Registration:
    """Registers this node in every configured cluster."""

    def __init__(
        self,
        pooled: connections.Connections,
        facts: NodeFacts,
        answer: Callable[[presence.Question], presence.Answer],
        broke: Callable[[], None],
    ) -> None:
        """Register this node.

        Args:
            pooled: the connections.
            facts: of this node.
            answer: answers a controller's question at once, without calling Ceph.
            broke: called when Ceph has ended the watch; it must see that `renew` is called soon.
        """
        self._connections = pooled
        self._facts = facts
        self._answer = answer
        self._broke = broke
        self._watches: dict[str, Watch] = {}
        self._refusals: dict[str, errors.NodeIdTaken] = {}  # by cluster

    def renew(self) -> float:
        """Watch the node's object, and write the record with the current time as `last_seen`.

        Returns the seconds until the next call is due.
        """
        written = [self._register(c.cluster_id) for c in self._connections.configured.clusters]
        return _HEARTBEAT_SECONDS if all(written) else _RETRY_SECONDS

    def is_refused(self) -> bool:
        """Return whether another machine that lives has this node's id in any cluster."""
        return bool(self._refusals)

    def require(self) -> None:
        """Raise NodeIdTaken if another machine that lives has this node's id in any cluster."""
        for refusal in self._refusals.values():
            raise errors.NodeIdTaken(str(refusal))

    def _register(self, cluster_id: str) -> bool:
        try:
            with self._connections.use(cluster_id) as connection:
                watch = self._watches.setdefault(
                    cluster_id,
                    presence.watch_for(self._facts.node_id, self._answer, self._broke),
                )
                watch.renew(connection.home())
                self._write(connection)
        except errors.RbdCsiError as error:
            if isinstance(error, errors.NodeIdTaken):
                self._refusals[cluster_id] = error
                self._watches.pop(cluster_id).close()  # only the owner of the id watches
            _log.warning(
                "node not registered in a cluster, to be repeated",
                cluster=cluster_id,
                error=str(error),
            )
            return False
        self._refusals.pop(cluster_id, None)
        return True

    def _write(self, connection: Connection) -> None:
        home, node_id = connection.home(), self._facts.node_id
        nodes = registry.Nodes(home)
        for _ in range(_TRIES):
            text = nodes.text(node_id)
            before = _decoded(node_id, text)
            if before and self._is_another_machines(before):
                self._require_free(home, nodes, text, before)
                before = None
            if nodes.swap(text, self._record(connection, before)):
                return
        raise errors.Busy(f"the record of node {node_id!r} keeps changing; is its id used twice?")

    def _is_another_machines(self, record: registry.NodeRecord) -> bool:
        return record.machine_id not in {"", self._facts.machine.machine_id}

    def _require_free(
        self,
        home: Ioctx,
        nodes: registry.Nodes,
        text: str | None,
        record: registry.NodeRecord,
    ) -> None:
        """Refuse if a plugin of the other machine may live, and note that in its record."""
        machine_id = self._facts.machine.machine_id
        answers = presence.ask(home, self._facts.node_id, presence.Question())
        others = [a for a in answers.answers if a.machine_id != machine_id]
        if others or answers.silent:
            noted = record.refused
            if not (noted and noted.machine_id == machine_id and _since(noted) < _REFUSED_AGAIN):
                refused = registry.Refused(machine_id, clock.now())
                nodes.swap(text, dataclasses.replace(record, refused=refused))
            raise errors.NodeIdTaken(
                f"node id {self._facts.node_id!r} belongs to the machine with addresses "
                f"{', '.join(record.addresses)} (last seen {record.last_seen}), whose node plugin "
                "still runs, and this is another machine; give each machine a --node-id of its "
                "own (chart: clusterName, if two Kubernetes clusters share a pool)"
            )

    def _record(
        self, connection: Connection, before: registry.NodeRecord | None
    ) -> registry.NodeRecord:
        facts = self._facts
        refused = before.refused if before else None
        return registry.NodeRecord(
            node_id=facts.node_id,
            addresses=(connection.address(),),
            boot_id=facts.machine.boot_id,
            driver_version=rbdcsi.__version__,
            last_seen=clock.now(),
            max_volumes=facts.max_volumes,
            mappers=facts.mappers,
            topology=dict(facts.topology),
            machine_id=facts.machine.machine_id,
            allowed_watchers=facts.allowed_watchers,
            refused=refused if refused and _since(refused) < _REFUSED_LATELY else None,
            ended_boots=_ended_boots(before, facts.machine.boot_id),
        )


def _ended_boots(before: registry.NodeRecord | None, boot_id: str) -> tuple[str, ...]:
    """Return the boots of this machine that have ended, by its record from before."""
    if before is None or not before.machine_id:  # an older driver's may be of another machine
        return ()
    others = (each for each in before.ended_boots if each not in {before.boot_id, boot_id})
    latest = (before.boot_id,) if before.boot_id not in {"", boot_id} else ()
    return (*others, *latest)[-_BOOTS:]


def _decoded(node_id: str, text: str | None) -> registry.NodeRecord | None:
    """Return the record in that text; None if there is none, or a damaged one, to be replaced."""
    try:
        return registry.decode(node_id, text) if text else None
    except errors.Failed:
        return None


def _since(refused: registry.Refused) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(refused.at)
