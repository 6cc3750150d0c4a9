"""Keeps fences in force for as long as they are needed, in the background of a controller.

A fence that ran out while its client lives, such as one on a frozen machine, would let late writes
through. So fences are renewed long before, and lifted only when the client is proved gone.
"""

import enum
from datetime import UTC, datetime, timedelta

import structlog

from rbdcsi import errors
from rbdcsi.attachments import fences, fencing
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.ceph import blocklist, connections, lease
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.nodes.registry import NodeRecord, Nodes
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()

_PAUSE_SECONDS = 30.0
_SHORT_PAUSE_SECONDS = 5.0  # while there are fences, of which one may be lifted soon
_RENEW = timedelta(seconds=fencing.SECONDS / 2)  # before the end
# Ceph counts an entry's time by the monitors' clock. A longer rest than this shows that the clock
# of the controller that wrote the note was ahead.
_LONGEST = timedelta(seconds=fencing.SECONDS + 3600)


class Action(enum.Enum):
    """The next step of a fence."""

    KEEP = "keep"
    RENEW = "renew"
    LIFT = "lift"  # the client is gone
    FORGET = "forget"  # the entry has run out, and nothing is left to renew it for


def next_action(
    fence: Fence,
    node: NodeRecord | errors.Failed | None,
    now: datetime,
    *,
    is_listed: bool,
) -> Action:
    """Decide what to do with a fence; pure.

    Args:
        fence: the fence.
        node: the record of its node, or the error that it is damaged, which proves nothing; None
            if the node was removed, because its machine is gone.
        now: the time in UTC.
        is_listed: whether Ceph has the client on its blocklist.
    """
    if fence.gone or (
        isinstance(node, NodeRecord) and node.has_ended(fence.machine_id, fence.boot_id)
    ):
        return Action.LIFT
    until = datetime.fromisoformat(fence.until)
    if (node is None or fence.retired) and fence.epoch:
        return Action.FORGET if now >= until else Action.KEEP
    if not fence.epoch or not is_listed or not _RENEW <= until - now <= _LONGEST:
        return Action.RENEW
    return Action.KEEP


class FenceUpkeep:
    """Renews and lifts the fences of one cluster; one controller at a time."""

    def __init__(self, cluster_id: str, pooled: connections.Connections) -> None:
        self._cluster_id = cluster_id
        self._connections = pooled

    def run(self) -> float:
        """Look at every fence once; return the seconds until the next time."""
        cluster_id, in_force = self._cluster_id, dict[tuple[str, ...], float]()
        metrics.FENCED.labels(cluster_id)  # from 0: Prometheus sees the first one
        metrics.FAIL_OVER_SECONDS.labels(cluster_id)
        try:
            with self._connections.use(cluster_id) as connection:
                in_force[(cluster_id,)] = _keep_up(connection)
        except errors.RbdCsiError as error:
            _log.warning(
                "fences not looked at, to be repeated", cluster=cluster_id, error=str(error)
            )
        metrics.FENCES.replace(cluster_id, in_force)
        return _SHORT_PAUSE_SECONDS if any(in_force.values()) else _PAUSE_SECONDS


def _keep_up(connection: Connection) -> int:
    """Do what each fence needs, unless another controller does; return the number of fences."""
    home = connection.home()
    noted = list(Fences(home).all())
    if not noted:
        return 0
    own_lease = lease.Lease(home, fences.OBJECT, "rbdcsi.upkeep")
    if own_lease.take():
        try:
            listed = blocklist.addresses(connection)
            for fence in noted:
                if isinstance(fence, errors.Failed):
                    _log.warning("fence not kept up", error=str(fence))
                else:
                    _act(connection, fence, is_listed=fence.address in listed)
        finally:
            own_lease.release()
    return len(noted)


def _act(connection: Connection, fence: Fence, *, is_listed: bool) -> None:
    try:
        node = _node(connection.home(), fence.node_id)
        match next_action(fence, node, datetime.now(UTC), is_listed=is_listed):
            case Action.RENEW:
                fencing.enter(connection, Fences(connection.home()), fence)
                steps.done("fence.renew", volume=fence.volume, client=fence.address)
            case Action.LIFT:
                lift(connection, fence)
            case Action.FORGET:
                Fences(connection.home()).change(fence, None)
                steps.done("fence.forget", volume=fence.volume, client=fence.address)
            case Action.KEEP:
                pass
    except errors.RbdCsiError as error:
        _log.warning(
            "fence not kept up, to be repeated",
            volume=fence.volume,
            client=fence.address,
            error=str(error),
        )


def lift(connection: Connection, fence: Fence) -> None:
    """Remove the entry of a client that is gone, then the note.

    Raises:
        Forbidden: the user may only add entries; the note stays until the entry has run out.
    """
    try:
        blocklist.remove(connection, fence.address)
    except errors.Forbidden:
        if datetime.now(UTC) < datetime.fromisoformat(fence.until):
            raise
    Fences(connection.home()).change(fence, None)
    steps.done("fence.lift", volume=fence.volume, client=fence.address)


def _node(home: Ioctx, node_id: str) -> NodeRecord | errors.Failed | None:
    """Return the node's record, None if there is none; of a damaged one the error."""
    try:
        return Nodes(home).begin_find(node_id).result()
    except errors.Failed as error:
        return error
