"""Rolls an image back in place to one of its snapshots, by librbd.

Four things that librbd (16 and 18) leaves to its caller:

- A snapshot can be removed while an image is rolled back to it. OSDs then remove the objects that
  they should roll back. So the snapshot is protected; Ceph itself refuses to remove it then.
- librbd makes the image as large as the snapshot. It is made larger again afterwards.
- librbd gives the image the object map of the snapshot, in which objects may count as unchanged
  since an older snapshot. Against a newer one they have changed, and fast-diff would leave them
  out (seen with 16.2.15). A map that is made again has all objects as changed.
- It gives it that map first, and then rolls back no object that neither map has. After a rollback
  that was cut off, the map lacks objects that were written since the snapshot, and a repeated one
  would leave them as they are. So the map is marked as invalid before.
"""

import contextlib
import struct
from collections.abc import Iterator

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes, object_map, objects, writers
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import ImageSnapshot, Protection
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.model.image_layout import BITS
from rbdcsi.telemetry import steps


class ChangingImage:
    """An image that is open to be rolled back; this client is one of its watchers."""

    def __init__(self, ioctx: rados.Ioctx, image_id: str, image: rbd.Image) -> None:
        self._ioctx = ioctx
        self._image_id = image_id
        self._image = image

    def watchers(self) -> frozenset[str]:
        """Return the clients that have the image open for writing or mapped, this one, too."""
        return OpenImage(self._image_id, self._image).watchers()

    def all_answer(self) -> bool:
        """Return whether all watchers live: librbd and krbd confirm a notification."""
        return writers.all_answer(self._ioctx, self._image_id)

    def lock(self) -> None:
        """Take the exclusive lock, if the image has one, and keep it from other clients.

        Raises:
            Refused: another client keeps it.
        """
        with ceph_errors.translated("taking the lock of image", self._image_id):
            changes.lock(self._image)

    def roll_back(self, snap_id: int, size: int) -> None:
        """Give the image the content of a snapshot, and at least this size.

        A repeat after a crash does all of it again.

        Args:
            snap_id: the snapshot, which is protected.
            size: the smallest size in bytes.

        Raises:
            Busy: another client has the image open and does not answer.
        """
        image = self._image
        with ceph_errors.translated("rolling back image", self._image_id):
            object_map.invalidate(self._ioctx, image)
            image.rollback_to_snap(image.snap_get_name(snap_id))
            steps.done("rollback.data", image_id=self._image_id)
            if image.size() < size:
                image.resize(size, allow_shrink=False)
                steps.done("rollback.size", image_id=self._image_id, size=size)
            if image.features() & BITS["object-map"]:
                image.rebuild_object_map()
                steps.done("rollback.object_map", image_id=self._image_id)


@contextlib.contextmanager
def opened(ioctx: rados.Ioctx, image_id: str) -> Iterator[ChangingImage]:
    """Open an image for the body; afterwards its lock is free.

    Raises:
        NotFound: no such image.
    """
    with changes.turn(image_id):
        with ceph_errors.translated("opening image", image_id):
            image = rbd.Image(ioctx, image_id=image_id)
        try:
            yield ChangingImage(ioctx, image_id, image)
        finally:
            with ceph_errors.translated("closing image", image_id):
                image.close()


def protect(ioctx: rados.Ioctx, image_id: str, snap_id: int) -> None:
    """Have Ceph refuse to remove a snapshot; one that is protected stays as it is.

    librbd's own protection is for clones of format 1. Its end looks for them in all pools of the
    cluster, one of which may not answer. This state allows no such clone.

    Args:
        ioctx: the location of the image, which has the feature layering.
        image_id: the image.
        snap_id: the snapshot.

    Raises:
        NotFound: no such image or snapshot, or it is being removed.
    """
    if _snapshot(ioctx, image_id, snap_id).protection is Protection.NONE:
        _set_protection(ioctx, image_id, snap_id, Protection.ENDING)
    try:
        _snapshot(ioctx, image_id, snap_id)
    except errors.NotFound:  # it was moved to librbd's trash of snapshots just before
        unprotect(ioctx, image_id, snap_id)
        raise


def unprotect(ioctx: rados.Ioctx, image_id: str, snap_id: int) -> None:
    """Let Ceph remove a snapshot again that `protect` protected; one that is gone needs nothing."""
    header = Images(ioctx).header(image_id)
    for snapshot in header.snapshots if header else ():
        if snapshot.snap_id == snap_id and snapshot.protection is Protection.ENDING:
            with contextlib.suppress(errors.NotFound):
                _set_protection(ioctx, image_id, snap_id, Protection.NONE)


def _snapshot(ioctx: rados.Ioctx, image_id: str, snap_id: int) -> ImageSnapshot:
    header = Images(ioctx).header(image_id)
    snapshot = header.user_snapshot(snap_id) if header else None
    if snapshot is None:
        raise errors.NotFound(
            f"image {image_id} has no snapshot with the id {snap_id} any more; choose another one"
        )
    return snapshot


def _set_protection(
    ioctx: rados.Ioctx, image_id: str, snap_id: int, protection: Protection
) -> None:
    doing = ceph_errors.translated("changing the protection of a snapshot of image", image_id)
    with doing, rados.WriteOpCtx() as op:
        argument = struct.pack("<QB", snap_id, protection.value)
        op.execute("rbd", "set_protection_status", argument)
        ioctx.operate_write_op(op, objects.HEADER + image_id)
