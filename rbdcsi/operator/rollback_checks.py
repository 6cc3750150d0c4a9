"""Pure: whether a volume may be rolled back to a snapshot, and which snapshot a person means."""

from collections.abc import Mapping, Set

from rbdcsi import errors
from rbdcsi.attachments import image_rules
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph.lineage import ImageSnapshot, Protection
from rbdcsi.ceph.objects import Header
from rbdcsi.model import ids
from rbdcsi.model.image_layout import BITS


def chosen(
    handle: ids.VolumeHandle, header: Header, names: Mapping[int, str], text: str
) -> ImageSnapshot:
    """Return the snapshot that a person names.

    Args:
        handle: the volume.
        header: of its image.
        names: the CSI names of its snapshots, by RBD's ids.
        text: the snapshot's id, its CSI name, or the name of the RBD snapshot.

    Raises:
        NotFound: the volume has no such snapshot.
        Refused: it is one of another volume, or several have that name.
    """
    listed = f"`rbdcsi snapshots ls --volume {handle}` lists them"
    if ids.is_snapshot(text):
        snapshot = ids.parse_snapshot(text)
        if snapshot.volume != handle:
            raise errors.Refused(
                f"snapshot {text} is one of volume {snapshot.volume}, and a volume can only be "
                f"rolled back to its own; {listed}. A new volume can be made from any snapshot"
            )
        named = [each for each in header.user_snapshots() if each.snap_id == snapshot.snap_id]
    else:
        named = [
            each for each in header.user_snapshots() if text in {each.name, names.get(each.snap_id)}
        ]
    if not named:
        raise errors.NotFound(f"volume {handle} has no snapshot {text!r}; {listed}")
    if len(named) > 1:
        several = " and ".join(str(ids.SnapshotHandle(handle, each.snap_id)) for each in named)
        raise errors.Refused(f"{text!r} may be {several}; give the id of one")
    return named[0]


def require_possible(
    handle: ids.VolumeHandle, header: Header, record: VolumeRecord, snapshot: ImageSnapshot
) -> None:
    """Refuse a rollback that would fail, or give other data than the snapshot has.

    Args:
        handle: the volume.
        header: of its image.
        record: the volume's.
        snapshot: the snapshot.

    Raises:
        Refused: the message says why.
    """
    image_rules.require_detached(record, str(handle))
    if not header.features & BITS["layering"]:
        raise errors.Refused(
            f"volume {handle}: its image has not the feature layering, which Ceph needs to protect "
            "a snapshot from removal at that time; it is not rolled back: copy the snapshot to a "
            "new image (`rbd cp IMAGE@SNAPSHOT`) and adopt that (`rbdcsi volumes adopt`)"
        )
    overlap = header.parent.overlap or 0 if header.parent else 0
    if (snapshot.overlap or 0) > overlap:
        raise errors.Refused(
            f"volume {handle}: snapshot {snapshot.name!r} reads up to {snapshot.overlap} bytes "
            f"from the volume that it is a copy of, and the image itself only {overlap}, because "
            "it was flattened or made smaller since; a rollback could lose these bytes: make a "
            "new volume from the snapshot instead"
        )
    own = record.rollback is not None and record.rollback.snap_id == snapshot.snap_id
    if snapshot.protection is Protection.ENDING and not own:
        raise errors.Refused(
            f"volume {handle}: `rbd snap unprotect` of snapshot {snapshot.name!r} runs, or was "
            "cut off; finish that first"
        )


def require_unused(handle: ids.VolumeHandle, watchers: Set[str]) -> None:
    """Refuse an image that a client has open.

    Args:
        handle: the volume.
        watchers: the other clients that have its image open for writing or mapped.

    Raises:
        Refused: there are some.
    """
    if watchers:
        raise errors.Refused(
            f"volume {handle} is not rolled back: client {', '.join(sorted(watchers))} has its "
            "image open, though no node has the volume attached; end it at its machine (a "
            "person's `rbd map`, a backup), or wait up to 30 s if it has just ended"
        )
