"""Detach: the steps of ControllerUnpublishVolume.

The record says `detaching` before the image is checked and is removed last, so a call that is cut
off anywhere is finished by its repeat.
"""

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import connections
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps


class Detacher:
    """Detaches volumes of every configured cluster from nodes."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled

    def detach(
        self,
        handle: ids.VolumeHandle,
        node_id: str,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        """Make sure that the node cannot use the volume any more.

        A volume or node that does not exist is detached already.

        Args:
            handle: the volume.
            node_id: the node; empty for every node.
            credentials: the call's own; None takes the configured ones.

        Raises:
            Refused: the node has not released the volume, or another client has the image open.
        """
        location_id = handle.location
        with self._connections.use(location_id.cluster_id, credentials) as connection:
            try:
                ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
            except errors.NotFound:  # the pool is gone, with the record
                return
            records = store.Records(ioctx)
            stored = records.read(handle.image_id)
            for node in [node_id] if node_id else sorted(stored.record.attachments):
                stored = _detach(records, Images(ioctx), handle, node, stored)


def _detach(
    records: store.Records,
    images: Images,
    handle: ids.VolumeHandle,
    node_id: str,
    stored: store.StoredRecord,
) -> store.StoredRecord:
    """Detach from one node and return the record as it is stored then."""
    if node_id not in stored.record.attachments:
        return stored
    volume, now = str(handle), clock.now()
    stored = records.change(
        handle.image_id,
        lambda record: rules.begin_detach(record, volume, node_id, now),
        stored,
    )
    steps.done("detach.begin", volume=volume, node=node_id)
    _require_unwatched(images, handle, stored.record, node_id)
    stored = records.change(handle.image_id, lambda record: record.without(node_id), stored)
    steps.done("detach.record", volume=volume, node=node_id)
    return stored


def _require_unwatched(
    images: Images, handle: ids.VolumeHandle, record: VolumeRecord, node_id: str
) -> None:
    """Refuse to detach while a client has the image open that no other attachment explains."""
    name = images.name_of(handle.image_id)
    if name is None:
        return
    others = {a.client for node, a in record.attachments.items() if node != node_id}
    unexplained = images.watchers(name) - others
    if unexplained:
        raise errors.Refused(
            f"volume {handle} cannot be detached from node {node_id!r} yet: image {name} is still "
            f"open by {', '.join(sorted(unexplained))}; end what uses it there (`rbd status "
            f"{name}` lists the watchers; one of a process that died goes after 30 s)"
        )
