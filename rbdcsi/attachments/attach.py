"""Attach: the steps of ControllerPublishVolume.

The compare-and-swap of the volume's record excludes other nodes. Everything is keyed by volume and
node, so a call that comes late or twice never harms a newer attachment.
"""

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import Attachment, State
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import capabilities, ids
from rbdcsi.model.storage_class import Parameters
from rbdcsi.nodes.registry import NodeRecord, Nodes
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps


class Attacher:
    """Attaches volumes of every configured cluster to nodes."""

    def __init__(self, pooled: connections.Connections, all_locations: locations.Locations) -> None:
        self._connections = pooled
        self._locations = all_locations
        self._marked: set[ids.LocationId] = set()

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

        Args:
            handle: the volume.
            node_id: the node.
            capability: how the node will use it.
            readonly: whether it will only read.
            credentials: the call's own; None takes the configured ones.

        Raises:
            NotFound: no such volume, or no such node.
            Refused, AlreadyExists, Busy: see `rules.attach`.
            Exhausted: the node has as many volumes as it may.
        """
        location_id, image_id, volume = handle.location, handle.image_id, str(handle)
        readonly, now = readonly or capability.mode.reader_only, clock.now()
        with (
            self._connections.use(location_id.cluster_id) as own_connection,
            self._connections.use(location_id.cluster_id, credentials) as connection,
        ):
            ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
            records = store.Records(ioctx)
            # The three reads are under way together.
            reading_record = records.begin_read(image_id)
            reading_node = Nodes(own_connection.home()).begin_get(node_id)
            reading_name = Images(ioctx).begin_name_of(image_id)
            node, stored = reading_node.result(), reading_record.result()
            if reading_name.result() is None:
                raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
            self._mark(locations.Location(location_id, "", ioctx))
            before = node_id in stored.record.attachments
            stored = records.change(
                image_id,
                lambda record: rules.attach(record, volume, node_id, capability, readonly, now),
                stored,
            )
            steps.done("attach.record", volume=volume, node=node_id)
            attachment = stored.record.attachments[node_id]
            if node.max_volumes and attachment.state is State.ATTACHED:
                self._require_room(handle, node, attachment, records, may_revert=not before)
            return attachment.generation

    def _mark(self, location: locations.Location) -> None:
        """Make the location one that the driver looks at: a static volume may be its first one."""
        if location.id in self._marked:
            return
        if not location.prefixes():
            location.add_prefix(Parameters.name_prefix)
            steps.done("attach.location", pool=location.id.pool_id)
        self._marked.add(location.id)

    def _require_room(
        self,
        handle: ids.VolumeHandle,
        node: NodeRecord,
        attachment: Attachment,
        records: store.Records,
        *,
        may_revert: bool,
    ) -> None:
        """Revert and refuse an attachment that is one too many.

        The count follows the write, so two controllers cannot both exceed the limit. A repeated
        call counts again until the node stages, so the limit holds even if a controller died
        between the write and the count. An attachment from an earlier call is not reverted,
        because that call may have succeeded.
        """
        others = sum(
            (location.id, image_id) != (handle.location, handle.image_id)
            for location in self._locations.of_cluster(handle.location.cluster_id)
            for image_id in store.Records(location.ioctx).attached_to(node.node_id)
        )
        if others < node.max_volumes:
            return
        if may_revert:
            records.change(
                handle.image_id, lambda record: rules.revert(record, node.node_id, attachment)
            )
        raise errors.Exhausted(
            f"node {node.node_id!r} holds {others} volumes, as many as its --max-volumes "
            f"allows, so volume {handle} cannot be attached there; detach another one, or use "
            "another node"
        )
