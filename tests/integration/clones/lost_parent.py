"""Makes what librbd leaves if it is cut off at the end of a flattening."""

import struct

import pytest
import rados
import rbd

from rbdcsi.ceph import objects
from rbdcsi.ceph.images import Images


def lose(ioctx: rados.Ioctx, image_id: str) -> None:
    """Do what librbd does before it removes a clone's parent from the header (DetachChildRequest).

    Args:
        ioctx: the location of the clone, and of its parent.
        image_id: a clone, the last one of a snapshot that was removed.
    """
    header = Images(ioctx).header(image_id)
    assert header
    assert header.parent
    child = struct.pack("<q", header.parent.pool_id) + objects.counted(image_id)
    child += objects.counted("")  # the RADOS namespace
    argument = struct.pack("<QBBI", header.parent.snap_id, 2, 1, len(child)) + child
    with rados.WriteOpCtx() as op:
        op.execute("rbd", "child_detach", argument)
        ioctx.operate_write_op(op, objects.HEADER + header.parent.image_id)
    with rbd.Image(ioctx, image_id=header.parent.image_id) as image:
        image.remove_snap_by_id(header.parent.snap_id)
    with pytest.raises(rbd.ImageNotFound):
        rbd.Image(ioctx, image_id=image_id, read_only=True)
