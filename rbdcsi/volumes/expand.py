"""ControllerExpandVolume: makes the image larger. Nodes then grow the filesystem, see `staging`.

The size in the image's header is all that changes, so a repeated call, and one after a crash, finds
how far the work is. librbd can shrink an image that two clients grow at once, so the volume's
record lets one client do it. A client that does not finish, because its process died or was
stopped, is put on Ceph's blocklist before another one begins: it cannot set its smaller size later.
"""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import image_rules, store
from rbdcsi.attachments.records import Growth, VolumeRecord
from rbdcsi.ceph import blocklist, connections
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.growth import grow
from rbdcsi.ceph.locations import Locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids, sizes
from rbdcsi.model.capabilities import Capability
from rbdcsi.runtime import clock
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec

_UNFINISHED_SECONDS = 15.0  # after so long, a growth that another client began is not waited for


@dataclass(frozen=True)
class Expanded:
    """The volume's size in bytes, and whether NodeExpandVolume must follow."""

    size: int
    on_node: bool


class Expander:
    """Makes volumes of every configured cluster larger."""

    def __init__(self, pooled: connections.Connections, all_locations: Locations) -> None:
        self._connections = pooled
        self._locations = all_locations

    def expand(
        self,
        handle: ids.VolumeHandle,
        required: int,
        limit: int,
        capability: Capability | None,
        credentials: Credentials | None = None,
    ) -> Expanded:
        """Make the volume at least as large as required; a volume that is, stays as it is.

        Args:
            handle: the volume.
            required: the smallest acceptable size in bytes; 0 is no bound.
            limit: the largest acceptable size in bytes; 0 is no limit.
            capability: how the volume is used; None if the call does not say it.
            credentials: the call's own; None takes the configured ones.

        Raises:
            NotFound: the volume does not exist, or is being deleted.
            SizeOutOfRange, InvalidRequest: see `sizes.grown`.
            Busy: another controller grows it.
            Refused, Unavailable, Exhausted: see `growth.grow`.
        """
        cluster_id = handle.location.cluster_id
        with (
            self._connections.use(cluster_id) as own_connection,
            self._connections.use(cluster_id, credentials) as connection,
        ):
            location = self._locations.open(connection, handle.location)
            images, records = location.images, store.Records(location.ioctx)
            # The three reads are under way together.
            reading_record = records.begin_read(handle.image_id)
            reading_name = images.begin_name_of(handle.image_id)
            header = images.header(handle.image_id)
            name, stored = reading_name.result(), reading_record.result()
            if name is None or header is None or stored.record.deleting:
                raise errors.NotFound(f"volume {handle} does not exist, or is being deleted")
            size = sizes.grown(
                required, limit, current=header.size, object_bytes=header.object_bytes
            )
            record = stored.record
            if size > header.size:
                growth = Growth(connection.address(), size, clock.now())
                ended = end_unfinished(own_connection, record, growth.client, header.size)
                records.change(
                    handle.image_id,
                    lambda each: image_rules.begin_grow(
                        each, str(handle), growth, header.size, ended
                    ),
                    stored,
                )
                steps.done("expand.record", volume=str(handle), size=size)
                grow(location.ioctx, handle.image_id, size, _clients(record))
                steps.done("expand.image", volume=str(handle), size=size)
                # Read after the growth: a node that attaches the volume later sees the new size.
                reading_record = records.begin_read(handle.image_id)
                grown, record = images.header(handle.image_id), reading_record.result().record
                size = grown.size if grown else size
            volume_spec = spec.read(header.metadata, name)
            is_raw = volume_spec is not None and volume_spec.fs_type is None
            return Expanded(size, needs_node(record, capability, is_raw=is_raw))


def end_unfinished(
    connection: Connection, record: VolumeRecord, client: str, image_size: int
) -> frozenset[str]:
    """End a client that began to grow the image long ago; return it, as no other one is left.

    Args:
        connection: that of the configured user, who may fence.
        record: the volume's.
        client: the one that is about to resize the image.
        image_size: the size of the image in bytes.

    Raises:
        Forbidden: the user may not put a client on the blocklist.
    """
    other = image_rules.unfinished_growth(record, client, image_size)
    if other is None or 0 <= clock.age(other.since) < _UNFINISHED_SECONDS:
        return frozenset()
    blocklist.end_process(connection, other.client)
    steps.done("expand.blocklist", client=other.client)
    return frozenset((other.client,))


def needs_node(record: VolumeRecord, capability: Capability | None, *, is_raw: bool) -> bool:
    """Return whether a node has to do its part.

    A filesystem is grown by the node that writes to it, now or when it stages the volume next. A
    raw device has the new size at once if it is mapped later. Nothing grows where it is only read.

    Args:
        record: the volume's, read after the image has its size.
        capability: how the volume is used; None if the call does not say it.
        is_raw: whether the volume was made for raw block use only.
    """
    if capability is not None and capability.mode.reader_only:
        return False
    is_written = any(not attachment.readonly for attachment in record.attachments.values())
    if is_raw if capability is None else capability.block:
        return is_written
    return is_written or not record.attachments


def _clients(record: VolumeRecord) -> set[str]:
    attachments = record.attachments.values()
    return {client.address for attachment in attachments for client in attachment.clients}
