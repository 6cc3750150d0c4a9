"""Attach: the steps of ControllerPublishVolume.

The compare-and-swap of the volume's record excludes other nodes. Everything is keyed by volume and
node, so a call that comes late or twice never harms a newer attachment.
"""

import contextlib

from rbdcsi import errors
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import Attachment, State
from rbdcsi.ceph import ceph_errors, connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.sick_pools import SickPools
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import capabilities, format_mark, ids
from rbdcsi.nodes.locations import NodeLocations, locations_of
from rbdcsi.nodes.registry import NodeRecord, Nodes
from rbdcsi.runtime import clock
from rbdcsi.runtime.futures import Future
from rbdcsi.telemetry import steps

_SICK_SECONDS = 60.0


class Attacher:
    """Attaches volumes of every configured cluster to nodes."""

    def __init__(self, pooled: connections.Connections, all_locations: locations.Locations) -> None:
        self._connections = pooled
        self._locations = all_locations
        self._sick_pools = SickPools(_SICK_SECONDS)

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
            records, home = store.Records(ioctx), own_connection.home()
            node_locations = NodeLocations(home, location_id.cluster_id, node_id)
            # The reads are under way together.
            reading_record = records.begin_read(image_id)
            reading_node = Nodes(home).begin_get(node_id)
            reading_name = Images(ioctx).begin_name_of(image_id)
            reading_location = node_locations.begin_has(location_id)
            node, stored = reading_node.result(), reading_record.result()
            if reading_name.result() is None:
                raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
            settles = readonly and not capability.block and _is_copied(Images(ioctx), image_id)
            before = node_id in stored.record.attachments
            self._locations.register(location_id)  # a static volume may be anywhere
            if not reading_location.result():
                node_locations.add(location_id)
            stored = records.change(
                image_id,
                lambda record: rules.attach(
                    record, volume, node_id, capability, readonly, now, settles=settles
                ),
                stored,
            )
            steps.done("attach.record", volume=volume, node=node_id)
            attachment = stored.record.attachments[node_id]
            if node.max_volumes and attachment.state is State.ATTACHED:
                self._require_room(handle, node, attachment, records, may_revert=not before)
            return attachment.generation

    def _attached(self, cluster_id: str, node_id: str) -> list[ids.VolumeHandle]:
        """Return the volumes that a node has attached, but those in pools that do not answer."""
        readings: list[tuple[ids.LocationId, Future[list[str]]]] = []
        attached: list[ids.VolumeHandle] = []
        places = locations_of(self._connections, self._locations, cluster_id, node_id)
        with self._connections.use(cluster_id) as connection:
            for place in places:
                if place in self._sick_pools:
                    continue
                with contextlib.suppress(errors.NotFound):  # the pool is gone
                    ioctx = connection.ioctx(place.pool_id, place.namespace)
                    readings.append((place, store.Records(ioctx).begin_attached_to(node_id)))
            for place, reading in readings:
                try:
                    attached += [ids.VolumeHandle(place, image_id) for image_id in reading.result()]
                except ceph_errors.ConnectionLost:
                    raise
                except errors.Unavailable as error:
                    self._sick_pools.add(place, error, "they do not count for --max-volumes")
        return attached

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
        because that call may have succeeded. Volumes in a pool that does not answer are not
        counted: they keep no volume of another pool from being attached.
        """
        attached = self._attached(handle.location.cluster_id, node.node_id)
        others = sum(each != handle for each in attached)
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


def _is_copied(images: Images, image_id: str) -> bool:
    """Return whether the image's filesystem was copied, and not mounted for writing since."""
    header = images.header(image_id)
    text = header.metadata.get(format_mark.KEY) if header else None
    mark = format_mark.read_mark(text, image_id)
    return mark is not None and mark.copied
