"""The volume that a snapshot is taken of, as Ceph has it at one moment."""

from dataclasses import dataclass
from typing import Self

from rbdcsi import errors
from rbdcsi.attachments import image_rules, store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.locations import Location
from rbdcsi.ceph.objects import Header
from rbdcsi.model import format_mark, ids
from rbdcsi.snapshots.records import SnapshotRecord


@dataclass(frozen=True)
class Source:
    """A volume: its header, its attachment record, the name of its image; None if it has none."""

    handle: ids.VolumeHandle
    header: Header | None
    record: VolumeRecord
    image: str | None

    @classmethod
    def read(cls, location: Location, handle: ids.VolumeHandle) -> Self:
        """Read the volume; the three reads are under way together."""
        reading_record = store.Records(location.ioctx).begin_read(handle.image_id)
        reading_name = location.images.begin_name_of(handle.image_id)
        header = location.images.header(handle.image_id)
        return cls(handle, header, reading_record.result().record, reading_name.result())

    @property
    def mark(self) -> str | None:
        """The volume's mark as it is stored, None if it has none."""
        return self.header.metadata.get(format_mark.KEY) if self.header else None

    def existing_header(self) -> Header:
        """Return the header.

        Raises:
            NotFound: the volume does not exist, or is being deleted.
            Refused: its image is being rolled back.
        """
        image_rules.require_whole(self.record, str(self.handle))
        if self.record.deleting:
            raise errors.NotFound(
                f"volume {self.handle} is being deleted since {self.record.deleting}, so no "
                "snapshot of it can be taken"
            )
        if self.header is None or self.image is None:
            raise errors.NotFound(f"volume {self.handle} does not exist")
        return self.header

    def require_not_rolled_back(self, before: Self) -> None:
        """Refuse a snapshot that was taken between two looks, if the image was rolled back then.

        Args:
            before: the source as it was before the snapshot was taken.

        Raises:
            Busy: the snapshot may hold a mix of old and new data.
        """
        if self.record.rollbacks != before.record.rollbacks:
            raise errors.Busy(
                f"volume {self.handle} was rolled back while a snapshot of it was taken, which may "
                "hold a mix of old and new data and is not used; try again"
            )

    def require_unused(self, snapshot: str, name: str) -> None:
        """Refuse a name for the RBD snapshot that the image has already.

        Args:
            snapshot: the name.
            name: of the CSI snapshot or group snapshot that it is for.

        Raises:
            AlreadyExists: the image has a snapshot of that name.
        """
        if self.existing_header().user_snapshot_named(snapshot):
            raise errors.AlreadyExists(
                f"image {self.image} of volume {self.handle} has a snapshot {snapshot!r} that was "
                f"not taken for snapshot {name!r}: another program made it, or a class with "
                "another snapshotNamePrefix; choose another name, or remove it with `rbd snap rm` "
                "if it is not needed"
            )

    def snapshot_of(self, record: SnapshotRecord) -> ImageSnapshot | None:
        """Return the RBD snapshot that a record stands for, None if the image has none."""
        if self.header is None:
            return None
        if record.snap_id is None:
            return self.header.user_snapshot_named(record.snapshot)
        return self.header.user_snapshot(record.snap_id)
