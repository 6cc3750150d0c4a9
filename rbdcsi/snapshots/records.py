"""The record of a snapshot: what CreateSnapshot was asked for, and how far it came.

Pure; see store.py for reading and changing it. Size, time and readiness are in the image's header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi.model import ids, stored


@dataclass(frozen=True)
class SnapshotRecord:
    """A snapshot that CreateSnapshot takes, or took.

    Attributes:
        name: the CSI name.
        source: the volume_id of the volume.
        snapshot: the name of the RBD snapshot.
        snap_id: RBD's id of it; None if the snapshot may not be taken yet.
        mark: the image metadata `rbdcsi.filesystem` of the volume at that time; None if it had
            none. A clone has it from here: the volume may have been formatted since.
        kubernetes: names of the VolumeSnapshot, or of the VolumeGroupSnapshot, for the operator.
        token: of the call that takes it: two reservations of one name differ.
        frozen: whether no filesystem of the volume was in use while the snapshot was taken, because
            it was frozen, or staged nowhere for writing.
        abandoned: whether the volume was deleted before the snapshot was finished. The record stays
            until the image is gone, for a snapshot that is still to come.
    """

    name: str
    source: str
    snapshot: str
    snap_id: int | None = None
    mark: str | None = None
    kubernetes: Mapping[str, str] = field(default_factory=dict)
    token: str = stored.later("")
    abandoned: bool = stored.later(default=False)
    frozen: bool = stored.later(default=False)
    unknown: Mapping[str, Any] = stored.unknown_fields()

    @property
    def volume(self) -> ids.VolumeHandle:
        """The volume that the snapshot is taken of."""
        return ids.parse(self.source)

    @property
    def handle(self) -> ids.SnapshotHandle | None:
        """The snapshot's handle, None if it has no id yet."""
        return ids.SnapshotHandle(self.volume, self.snap_id) if self.snap_id else None


SNAPSHOT_RECORD = stored.Kind(
    SnapshotRecord,
    name="snapshot record",
    remedy="so it is not known what the name stands for, and nothing is changed: look at it with "
    "`rados getomapval`, compare it with `rbd snap ls`, then remove that key",
)
