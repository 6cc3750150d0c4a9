"""Lifts a fence by hand, if its client is proved gone or a person takes the risk."""

from rbdcsi import errors
from rbdcsi.attachments import upkeep
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.ceph import blocklist
from rbdcsi.ceph.connection import Connection
from rbdcsi.nodes.registry import NodeRecord, Nodes
from rbdcsi.telemetry import steps


def proof_of_end(fence: Fence, node: NodeRecord | None) -> str | None:
    """Return why the fence's client is certainly gone, None if it may still live."""
    if fence.gone:
        return f"its node reported at {fence.gone} that it has no device of this client any more"
    if node and node.has_ended(fence.machine_id, fence.boot_id):
        return "its machine has been restarted"
    return None


def risk(connection: Connection, address: str) -> str | None:
    """Return what may be lost if the fence of this client is lifted, None if nothing.

    Args:
        connection: to the cluster.
        address: the client's, `ip:port/nonce`.

    Raises:
        NotFound: the driver has no fence of that client.
    """
    try:
        fence = Fences(connection.home()).get(address)
    except errors.Failed:
        return "its note is damaged, so it is not known whether the client is gone"
    if fence is None:
        raise errors.NotFound(
            f"cluster {connection.cluster_id} has no fence of client {address}; `rbdcsi fences ls` "
            "lists the driver's, `ceph osd blocklist ls` all entries"
        )
    if proof_of_end(fence, _node(connection, fence.node_id)):
        return None
    return (
        f"the client of node {fence.node_id!r} is not proved gone: if it lives, it can write to "
        f"volume {fence.volume} again, beside the volume's next holder, and destroy its filesystem"
    )


def lift(connection: Connection, address: str) -> None:
    """Remove the client from the blocklist, then the note.

    Args:
        connection: to the cluster.
        address: the client's.

    Raises:
        Forbidden: the user may only add entries, and this one has not run out; the note stays.
    """
    fences = Fences(connection.home())
    try:
        _lift(connection, fences, address)
    except errors.Forbidden as error:
        raise errors.Forbidden(
            f"fence of client {address}: the driver's Ceph user may not remove entries of the "
            f"blocklist; run `ceph osd blocklist rm {address}` as an administrator of Ceph, then "
            "repeat the command"
        ) from error


def _lift(connection: Connection, fences: Fences, address: str) -> None:
    try:
        fence = fences.get(address)
    except errors.Failed:  # the note is damaged
        blocklist.remove(connection, address)
        fences.remove(address)
        steps.done("fence.lift", client=address)
        return
    if fence:
        upkeep.lift(connection, fence)


def _node(connection: Connection, node_id: str) -> NodeRecord | None:
    try:
        return Nodes(connection.home()).get(node_id)
    except (errors.NotFound, errors.Failed):
        return None
