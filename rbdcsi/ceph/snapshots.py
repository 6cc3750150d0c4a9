"""Takes and removes snapshots of images, by librbd.

librbd asks the client that has the image's exclusive lock to hand it over: that client finishes its
writes before. If the client does not answer any more, librbd breaks its lock. Such a client may
come back, believe that it has the lock, and write into the snapshot. So every client of a node that
may write is asked for an answer before, and must still watch the image afterwards.
"""

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes, flattening, objects, watch
from rbdcsi.ceph.images import OpenImage

_HEADER_CHANGED = ""  # the oldest notification of RBD


def take(ioctx: rados.Ioctx, image_id: str, name: str, writers: frozenset[str]) -> None:
    """Take a snapshot of an image.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: of the new snapshot.
        writers: the addresses of the clients by which nodes have the image mapped for writing.

    Raises:
        AlreadyExists: the image has a snapshot of that name.
        NotFound: no such image.
        Busy: one of the clients does not answer, or the image is being flattened. The snapshot may
            have been taken, and must not be used.
        Refused: a client has locked the image and keeps the lock.
    """
    doing = ceph_errors.translated("taking a snapshot of image", image_id)
    turn, apart = changes.turn(image_id), flattening.excluded([(ioctx, image_id)])
    with doing, turn, apart, rbd.Image(ioctx, image_id=image_id) as image:
        opened = OpenImage(image_id, image)
        if writers:
            _require_watching(opened, image_id, writers)
            _require_answers(ioctx, image_id)
        image.create_snap(name)
        if writers:
            _require_watching(opened, image_id, writers)


def _require_watching(opened: OpenImage, image_id: str, writers: frozenset[str]) -> None:
    if silent := writers - opened.watchers():
        raise _silent(f"client {', '.join(sorted(silent))}", image_id)


def _require_answers(ioctx: rados.Ioctx, image_id: str) -> None:
    """Ask the image's watchers to read the header again, which librbd and krbd confirm."""
    if watch.notify(ioctx, objects.HEADER + image_id, _HEADER_CHANGED).silent:
        raise _silent("a client", image_id)


def _silent(client: str, image_id: str) -> errors.Busy:
    return errors.Busy(
        f"{client} has image {image_id} mapped and does not answer, so a snapshot could still "
        "change after it was taken; try again when the client is back, or when the volume is "
        "detached from its node"
    )


def remove(ioctx: rados.Ioctx, image_id: str, snap_id: int) -> None:
    """Remove a snapshot; if clones of format 2 need its data, librbd keeps it for them.

    Args:
        ioctx: the location of the image, which may be in the trash.
        image_id: the image.
        snap_id: the snapshot; its name may be that of a newer one.

    Raises:
        NotFound: no such image or snapshot.
        Refused: clones of format 1 need it, or a client has locked the image.
    """
    doing = ceph_errors.translated("removing a snapshot of image", image_id)
    with doing, changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        image.remove_snap_by_id(snap_id)
