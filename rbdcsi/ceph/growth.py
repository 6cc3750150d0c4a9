"""Makes an image larger, also one that is mapped.

librbd does it under the image's exclusive lock. A mapped client that uses librbd resizes the image
itself when it is asked to; krbd hands the lock over, and takes it back with its next write
(librbd/Operations.cc, drivers/block/rbd.c). So no client loses its mapping, and the object map
stays right.
"""

from collections.abc import Set

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes
from rbdcsi.ceph.open_image import OpenImage


def grow(ioctx: rados.Ioctx, image_id: str, size: int, clients: Set[str]) -> None:
    """Make the image as large as `size`; one that is as large, or larger, stays as it is.

    Only one client may do this at a time, see `image_rules.begin_grow`.

    Args:
        ioctx: the image's location.
        image_id: the image.
        size: the new size in bytes.
        clients: the recorded clients, which may have the image mapped.

    Raises:
        NotFound: no such image.
        Unavailable: a recorded client holds the image's lock and does not answer Ceph.
        Refused: another client keeps the lock, or the image is a mirror's copy.
        Exhausted: the pool or the cluster is full.
    """
    doing = ceph_errors.translated("growing image", image_id)
    with doing, changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        opened = OpenImage(image_id, image)
        if clients:
            _require_answering(opened, image_id, clients)
        try:
            if image.size() < size:
                image.resize(size, allow_shrink=False)
        except rbd.ReadOnlyImage as error:
            raise errors.Refused(
                f"image {image_id} is not grown, as Ceph says that it is read-only; the lock's "
                f"owner is {', '.join(sorted(opened.lock_owners())) or 'no client'}; a client that "
                "mapped it with the option exclusive must unmap it first, and a mirrored image is "
                "grown where it is primary"
            ) from error


def _require_answering(image: OpenImage, image_id: str, clients: Set[str]) -> None:
    """Refuse to take the lock of a node that is cut off: librbd would break the lock for that."""
    cut_off = (image.lock_owners() & clients) - image.watchers()
    if cut_off:
        raise errors.Unavailable(
            f"image {image_id} is not grown: client {', '.join(sorted(cut_off))} of an attachment "
            "holds its lock and does not answer Ceph; repeat the call when the node is back, or "
            "when the volume is detached from it"
        )
