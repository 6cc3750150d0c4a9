"""Ends what a lost node has: one attachment, all of them, or the node itself."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rbdcsi import errors
from rbdcsi.attachments.detach import Detacher
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.connections import Connections
from rbdcsi.model.ids import VolumeHandle
from rbdcsi.nodes import presence
from rbdcsi.nodes.registry import Nodes
from rbdcsi.telemetry import steps

_AT_ONCE = 8  # a node that does not answer takes seconds for each of its volumes

Report = Callable[[VolumeHandle, errors.RbdCsiError | None], None]


def end_all(detacher: Detacher, node_id: str, handles: list[VolumeHandle], report: Report) -> bool:
    """End the node's attachments of these volumes, each as `Detacher.detach` does.

    Args:
        detacher: detaches, and fences if the node does not release a volume.
        node_id: the node.
        handles: the volumes.
        report: called with each volume in turn, and the error if it was not ended.

    Returns:
        Whether all were ended.
    """

    def end(handle: VolumeHandle) -> errors.RbdCsiError | None:
        try:
            detacher.detach(handle, node_id)
        except errors.RbdCsiError as error:
            return error
        return None

    complete = True
    with ThreadPoolExecutor(_AT_ONCE, "release") as executor:
        for handle, error in zip(handles, executor.map(end, handles), strict=True):
            report(handle, error)
            complete = complete and error is None
    return complete


def require_gone(connection: Connection, node_id: str) -> None:
    """Check that no plugin of a node watches, so that its record can be removed.

    Raises:
        Refused: one does; it would write the record again.
    """
    if presence.lives(connection.home(), node_id):
        raise errors.Refused(
            f"node {node_id!r} cannot be retired: its node plugin runs, or is frozen; end it first "
            "(`kubectl drain`, then delete the Node)"
        )


def retire(pooled: Connections, cluster_id: str, node_id: str) -> bool:
    """Remove the record and the object of a node that has no attachments.

    Its fences are marked: if a new machine takes the node's name, they still end by themselves.

    Args:
        pooled: the connections.
        cluster_id: the cluster.
        node_id: the node, whose machine is gone for good.

    Returns:
        Whether there was a record.

    Raises:
        Refused: a plugin of the node runs.
        Busy: the record changed at that moment: a plugin of the node runs.
    """
    with pooled.use(cluster_id) as connection:
        nodes, fences = Nodes(connection.home()), Fences(connection.home())
        text = nodes.text(node_id)
        require_gone(connection, node_id)  # it may have been started since
        for fence in fences.all():
            if isinstance(fence, Fence) and fence.node_id == node_id:
                fences.change(fence, dataclasses.replace(fence, retired=True))
        if text is not None and not nodes.remove(node_id, text):
            raise errors.Busy(f"node {node_id!r}: its record has just changed; is its plugin up?")
        presence.retire(connection.home(), node_id)
        steps.done("node.retire", cluster=cluster_id, node=node_id)
        return text is not None
