"""Takes and removes snapshots of images, by librbd."""

import contextlib

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes, flattening
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.ceph.writers import require_answers, require_watching


def take(
    ioctx: rados.Ioctx,
    image_id: str,
    name: str,
    writers: frozenset[str],
    still: contextlib.AbstractContextManager[None] | None = None,
) -> None:
    """Take a snapshot of an image.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: of the new snapshot.
        writers: the addresses of the clients by which nodes have the image mapped for writing.
        still: keeps the volume's filesystem still while the snapshot is taken, or None; if its end
            raises, the snapshot is removed.

    Raises:
        AlreadyExists: the image has a snapshot of that name.
        NotFound: no such image.
        Busy: one of the clients does not answer, or the image is being flattened. The snapshot may
            have been taken, and must not be used.
        Refused: a client has locked the image and keeps the lock.
        Others: those of `still`.
    """
    doing = ceph_errors.translated("taking a snapshot of image", image_id)
    turn, apart = changes.turn(image_id), flattening.excluded([(ioctx, image_id)])
    with doing, turn, apart, rbd.Image(ioctx, image_id=image_id) as image:
        opened = OpenImage(image_id, image)
        require_answers(ioctx, opened, image_id, writers)
        snap_id = None
        try:
            with still or contextlib.nullcontext():
                image.create_snap(name)
                # The client that had the lock took it, and this one may not know it yet.
                with contextlib.suppress(rbd.ImageNotFound):
                    snap_id = image.snap_get_id(name)
        except errors.RbdCsiError:
            if snap_id is not None:
                # Otherwise the snapshot stays as one whose call died: the next call removes it.
                with contextlib.suppress(rbd.Error, errors.Busy):
                    _remove(ioctx, image, image_id, snap_id, writers)
            raise
        require_watching(opened, image_id, writers)


def remove(ioctx: rados.Ioctx, image_id: str, snap_id: int, writers: frozenset[str]) -> None:
    """Remove a snapshot; if clones of format 2 need its data, librbd keeps it for them.

    Args:
        ioctx: the location of the image, which may be in the trash.
        image_id: the image.
        snap_id: the snapshot; its name may be that of a newer one.
        writers: the addresses of the clients by which nodes have the image mapped for writing.

    Raises:
        NotFound: no such image or snapshot.
        Busy: one of the writers does not answer.
        Refused: clones of format 1 need it, or a client has locked the image.
    """
    doing = ceph_errors.translated("removing a snapshot of image", image_id)
    with doing, changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        _remove(ioctx, image, image_id, snap_id, writers)


def _remove(
    ioctx: rados.Ioctx, image: rbd.Image, image_id: str, snap_id: int, writers: frozenset[str]
) -> None:
    """Remove a snapshot of an open image; no lock of a writer is broken for it."""
    require_answers(ioctx, OpenImage(image_id, image), image_id, writers)
    image.remove_snap_by_id(snap_id)
