"""The volume or snapshot that a new volume is to be a copy of, as Ceph has it."""

from dataclasses import dataclass
from typing import TypeAlias

from rbdcsi import errors
from rbdcsi.attachments import image_rules, store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import locations
from rbdcsi.ceph.connection import Connection
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
    `record` is that of the volume.
    """

    volume: ids.VolumeHandle
    location: locations.Location
    image: str
    header: Header
    snapshot: ImageSnapshot | None
    spec: spec.VolumeSpec | None
    mark: format_mark.Mark | None
    record: VolumeRecord

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
    own_connection: Connection,
    connection: Connection,
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
        Refused: it is a volume that is being rolled back.
    """
    volume = volume_of(content)
    location = all_locations.open(connection, volume.location)
    image_id = volume.image_id
    # The reads are under way together.
    reading_taken = None
    if isinstance(content, ids.SnapshotHandle):
        records = Snapshots(own_connection.home(), volume.location.cluster_id)
        reading_taken = records.begin_of_snapshot(content)
    reading_record = store.Records(location.ioctx).begin_read(image_id)
    reading_name = location.images.begin_name_of(image_id)
    header = location.images.header(image_id)
    record, image = reading_record.result().record, reading_name.result()
    if header is None or image is None:
        raise missing(content)
    source_spec = spec.read(header.metadata, image)
    snapshot, mark = None, format_mark.read_mark(header.metadata.get(format_mark.KEY), image)
    if isinstance(content, ids.SnapshotHandle) and reading_taken:
        snapshot = header.user_snapshot(content.snap_id)
        if snapshot is None:
            raise missing(content)
        if taken := reading_taken.result():
            mark = format_mark.read_mark(taken.record.mark, image)
        else:
            fs_type = source_spec.fs_type if source_spec else None
            rolled_back = record.rollbacks > 0
            mark = format_mark.of_unrecorded(mark, fs_type, rolled_back=rolled_back)
    elif record.deleting:
        raise missing(content)
    else:
        image_rules.require_whole(record, str(volume))
    return Source(volume, location, image, header, snapshot, source_spec, mark, record)


def mark_now(source: Source) -> format_mark.Mark | None:
    """Return the mark of a source volume after its content was copied.

    Raises:
        NotFound: the volume is gone, or is being deleted.
        Busy: it was rolled back at the same time.
    """
    location, image_id = source.location, source.volume.image_id
    header, record = location.images.header(image_id), store.Records(location.ioctx).get(image_id)
    if header is None or record.deleting:
        raise missing(source.volume)
    if record.rollbacks != source.record.rollbacks:
        raise errors.Busy(
            f"volume_content_source: volume {source.volume} was rolled back while it was copied; "
            "the copy may hold a mix of old and new data and is not used; try again"
        )
    return format_mark.read_mark(header.metadata.get(format_mark.KEY), source.image)


def missing(content: ContentSource) -> errors.NotFound:
    """Return the error of a source that does not exist."""
    kind = "snapshot" if isinstance(content, ids.SnapshotHandle) else "volume"
    return errors.NotFound(
        f"volume_content_source: {kind} {content} does not exist, or is being deleted; nothing "
        "was made"
    )
