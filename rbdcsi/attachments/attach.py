"""Attach and detach: the steps of ControllerPublishVolume and ControllerUnpublishVolume.

Exclusion is the compare-and-swap of the volume's record; everything is keyed by volume and node,
so a call that comes late or twice never harms a newer attachment.
"""

from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments import records, rules, store
from rbdcsi.ceph import connections, images, locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import capabilities, ids
from rbdcsi.nodes import registry
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps


class Attachments:
    """The attach stage of every configured cluster."""

    def __init__(
        self,
        pooled: connections.Connections,
        known: locations.Locations,
        now: Callable[[], str] = clock.now,
    ) -> None:
        self._connections = pooled
        self._locations = known
        self._now = now

    def attach(
        self,
        handle: ids.VolumeHandle,
        node_id: str,
        capability: capabilities.Capability,
        *,
        readonly: bool,
        credentials: Credentials | None = None,
    ) -> int:
        """Record that the node may use the volume, and return the attachment's generation.

        Raises:
            NotFound: no such volume, or no such node.
            Refused, AlreadyExists, Busy: see `rules.attach`.
            Exhausted: the node holds as many volumes as it may.
        """
        readonly = readonly or capability.mode.reader_only
        volume, now = str(handle), self._now()
        entered = False  # by this call

        def rule(record: records.VolumeRecord) -> records.VolumeRecord:
            nonlocal entered
            entered = node_id not in record.attachments
            return rules.attach(record, volume, node_id, capability, readonly, now)

        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            ioctx = _open(connection, handle)
            held = store.Records(ioctx)
            # the reads are under way together
            record = held.begin_see(handle.image_id)
            registered = registry.Nodes(connection.home()).begin_get(node_id)
            name = images.Images(ioctx).begin_name_of(handle.image_id)
            node, seen = registered(), record()
            if name() is None:
                raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
            after = held.change(handle.image_id, rule, seen)
            assert after is not None  # noqa: S101  rule never removes
            steps.done("attach.record", volume=volume, node=node_id)
            attachment = after.attachments[node_id]
            if node.max_volumes and attachment.state is records.State.ATTACHED:
                try:
                    self._require_room(handle, node)
                except errors.Exhausted:
                    if entered:  # else it may have been answered before
                        held.change(
                            handle.image_id, lambda r: rules.withdraw(r, node_id, attachment)
                        )
                    raise
            return attachment.generation

    def detach(
        self,
        handle: ids.VolumeHandle,
        node_id: str,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        """Make sure that the node cannot use the volume any more; empty `node_id`: no node can.

        A volume or node that is gone is fine: there is nothing left to harm.

        Raises:
            Refused: the node has not let go of the volume, or somebody else has it open.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            try:
                ioctx = _open(connection, handle)
            except errors.NotFound:  # the pool is gone, with the record
                return
            record = store.Records(ioctx).get(handle.image_id)
            for node in [node_id] if node_id else sorted(record.attachments):
                self._detach(ioctx, handle, node)

    def _detach(self, ioctx: connections.Ioctx, handle: ids.VolumeHandle, node_id: str) -> None:
        held, now = store.Records(ioctx), self._now()
        record = held.get(handle.image_id)
        if node_id in record.attachments:
            held.change(handle.image_id, lambda r: rules.begin_detach(r, str(handle), node_id, now))
            steps.done("detach.begin", volume=str(handle), node=node_id)
            _require_unwatched(ioctx, handle, held.get(handle.image_id), node_id)
            held.change(handle.image_id, lambda r: r.without(node_id))
            steps.done("detach.record", volume=str(handle), node=node_id)

    def _require_room(self, handle: ids.VolumeHandle, node: registry.NodeRecord) -> None:
        """Refuse an attachment that is one too many.

        Counted after it is recorded, so two controllers together never exceed the limit; and as
        long as the node has not staged it, so a controller that died before the count is no hole.
        """
        others = sum(
            (place.id, image_id) != (handle.location, handle.image_id)
            for place in self._locations.of_cluster(handle.location.cluster_id)
            for image_id in store.Records(place.ioctx).held_by(node.node_id)
        )
        if others >= node.max_volumes:
            raise errors.Exhausted(
                f"node {node.node_id!r} holds {others} volumes, as many as its --max-volumes "
                f"allows, so volume {handle} cannot be attached there; detach another one, or use "
                "another node"
            )


def _open(connection: connections.Connection, handle: ids.VolumeHandle) -> connections.Ioctx:
    return connection.ioctx(handle.location.pool_id, handle.location.namespace)


def _require_unwatched(
    ioctx: connections.Ioctx,
    handle: ids.VolumeHandle,
    record: records.VolumeRecord,
    node_id: str,
) -> None:
    """Refuse to detach while a client has the image open that no other attachment accounts for."""
    held = images.Images(ioctx)
    name = held.name_of(handle.image_id)
    if name is None:
        return
    others = {a.client for node, a in record.attachments.items() if node != node_id}
    unknown = held.watchers(name) - others
    if unknown:
        raise errors.Refused(
            f"volume {handle} cannot be detached from node {node_id!r} yet: image {name} is still "
            f"open by {', '.join(sorted(unknown))}; end what uses it there (`rbd status {name}` "
            "lists the watchers; one of a process that died goes after 30 s)"
        )
