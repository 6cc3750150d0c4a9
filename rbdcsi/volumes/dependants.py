"""What keeps the image of a deleted volume: its snapshots, and clones of removed snapshots. Pure.

Clones need their parent's data, and librbd keeps a snapshot that has clones in a trash of its own
when it is removed, until the last clone is gone. librbd removes no image that has snapshots.
"""

from dataclasses import dataclass

from rbdcsi.ceph.lineage import SnapshotKind
from rbdcsi.ceph.objects import Header


@dataclass(frozen=True)
class Dependants:
    """How many snapshots, and how many clones of removed snapshots, need an image."""

    snapshots: int
    clones: int

    def __str__(self) -> str:
        parts = ((self.snapshots, "snapshot"), (self.clones, "clone"))
        return " and ".join(f"{n} {noun}{'s' * (n > 1)}" for n, noun in parts if n)


def of_header(header: Header) -> Dependants | None:
    """Return what needs the image, None if nothing does.

    Snapshots of mirroring go with the mirroring, which ends before the image is removed.
    """
    kinds = [each.kind for each in header.snapshots]
    clones = sum(each.children for each in header.snapshots if each.kind is SnapshotKind.TRASH)
    snapshots = len(kinds) - sum(map(kinds.count, (SnapshotKind.TRASH, SnapshotKind.MIRROR)))
    return Dependants(snapshots, clones) if snapshots or clones else None


def needs_name(header: Header) -> bool:
    """Return whether the image must stay outside the trash: librbd clones from it by its name."""
    dependants = of_header(header)
    return bool(dependants and dependants.snapshots)


def left_behind(header: Header) -> list[int]:
    """Return the ids of removed snapshots that no clone needs any more.

    librbd removes them with the last clone, unless its process dies in between.
    """
    return [
        each.snap_id
        for each in header.snapshots
        if each.kind is SnapshotKind.TRASH and not each.children
    ]
