"""The volume or snapshot that a new volume is to be a copy of, as Ceph has it."""

from dataclasses import dataclass
from typing import TypeAlias

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.objects import Header
from rbdcsi.model import format_mark, ids
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.volumes import spec

ContentSource: TypeAlias = ids.VolumeHandle | ids.SnapshotHandle


@dataclass(frozen=True)
class Source:
    """A source that exists; `snapshot` is None if it is a volume as it is now.

    `mark` is that of the content, if it is a snapshot's. Of a volume it is the mark before.
    `writers` are the addresses of the clients by which nodes have it mapped for writing.
    """

    volume: ids.VolumeHandle
    location: locations.Location
    image: str
    header: Header
    snapshot: ImageSnapshot | None
    spec: spec.VolumeSpec | None
    mark: format_mark.Mark | None
    writers: frozenset[str]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.snapshot.size if self.snapshot else self.header.size


def volume_of(content: ContentSource) -> ids.VolumeHandle:
    """Return the volume whose content is copied."""
    return content.volume if isinstance(content, ids.SnapshotHandle) else content


def require_cluster(content: ContentSource, cluster_id: str) -> None:
    """Refuse a source that is in another cluster than its copy.

    Raises:
        InvalidRequest: it is.
    """
    of_source = volume_of(content).location.cluster_id
    if of_source != cluster_id:
        raise errors.InvalidRequest(
            f"volume_content_source: {content} is in cluster {of_source}, the volume is to be in "
            f"{cluster_id}, and Ceph copies within a cluster only; use a StorageClass with "
            f"clusterID {of_source}"
        )


def read(
    own_connection: connections.Connection,
    connection: connections.Connection,
    all_locations: locations.Locations,
    content: ContentSource,
) -> Source:
    """Return the source.

    Args:
        own_connection: that of the configured user, who may read the records of snapshots.
        connection: that of the call's user.
        all_locations: of volumes.
        content: the volume or snapshot.

    Raises:
        NotFound: it does not exist, or is being deleted.
    """
    volume = volume_of(content)
    location = all_locations.open(connection, volume.location)
    image_id = volume.image_id
    reading_record = store.Records(location.ioctx).begin_read(image_id)
    reading_name = location.images.begin_name_of(image_id)
    header = location.images.header(image_id)
    record, image = reading_record.result().record, reading_name.result()
    if header is None or image is None:
        raise missing(content)
    snapshot, text = None, header.metadata.get(format_mark.KEY)
    if isinstance(content, ids.SnapshotHandle):
        snapshot = header.user_snapshot(content.snap_id)
        if snapshot is None:
            raise missing(content)
        taken = Snapshots(own_connection.home(), volume.location.cluster_id).of_snapshot(content)
        # The mark of a snapshot that another program took is not known: it is not later than this.
        text = taken.record.mark if taken else text
    elif record.deleting:
        raise missing(content)
    mark = format_mark.read_mark(text, image)
    source_spec = spec.read(header.metadata, image)
    writers = record.writers()
    return Source(volume, location, image, header, snapshot, source_spec, mark, writers)


def mark_now(source: Source) -> format_mark.Mark | None:
    """Return the mark of a source volume after its content was copied.

    Raises:
        NotFound: the volume is gone, or is being deleted.
    """
    location, image_id = source.location, source.volume.image_id
    header = location.images.header(image_id)
    if header is None or store.Records(location.ioctx).get(image_id).deleting:
        raise missing(source.volume)
    return format_mark.read_mark(header.metadata.get(format_mark.KEY), source.image)


def missing(content: ContentSource) -> errors.NotFound:
    """Return the error of a source that does not exist."""
    kind = "snapshot" if isinstance(content, ids.SnapshotHandle) else "volume"
    return errors.NotFound(
        f"volume_content_source: {kind} {content} does not exist, or is being deleted; nothing "
        "was made"
    )
