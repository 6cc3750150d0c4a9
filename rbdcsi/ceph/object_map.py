"""An image's object map: which of its objects exist, as the clients that write have noted.

A client notes an object in the map before it writes the object. If it dies in between, the map has
an object that is not there. Readers look for it, and find none. But librbd trusts the map:

- when it flattens an image, it copies no object that the map has (until Ceph's issue 68998 was
  mended, in 2024), so the data of the parent is lost;
- when it rolls an image back, it replaces the map first, and then leaves out each object that the
  map lacks.

While the map is marked as invalid, librbd copies and rolls back every object.
"""

import struct

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, objects, writers
from rbdcsi.ceph.lineage import NO_SNAPSHOT
from rbdcsi.model.image_layout import BITS

_INVALID = 1  # RBD_FLAG_OBJECT_MAP_INVALID
_ALL = _INVALID | 2  # RBD_FLAG_FAST_DIFF_INVALID, which is part of the map


def invalidate(ioctx: rados.Ioctx, image: rbd.Image) -> None:
    """Mark an image's map as invalid, and let every client that watches the image know it.

    Args:
        ioctx: the location of the image.
        image: the image, open for writing; without a map nothing is done.

    Raises:
        Busy: a client does not answer, and may trust the map still.
    """
    if not image.features() & BITS["object-map"]:
        return
    image_id = image.id()
    with (
        ceph_errors.translated("invalidating the object map of image", image_id),
        rados.WriteOpCtx() as op,
    ):
        argument = struct.pack("<QQQ", _ALL, _ALL, NO_SNAPSHOT)  # values, mask, of the image itself
        op.execute("rbd", "set_flags", argument)
        ioctx.operate_write_op(op, objects.HEADER + image_id)
    if not writers.all_answer(ioctx, image_id):
        raise errors.Busy(
            f"a client has image {image_id} open and does not answer; try again when it is gone"
        )


def rebuild(image: rbd.Image) -> None:
    """Make an image's map valid again if it is invalid; takes a read of each object.

    Args:
        image: the image, open for writing.
    """
    if image.flags() & _INVALID:
        image.rebuild_object_map()
