"""A clone whose parent is lost, so that no client can open it: its detaching was cut off.

The parent is lost, too, if its pool was removed.

At the end of a flattening, librbd takes the clone off its parent's list. If the parent's snapshot
was removed before, and this was its last clone, librbd also removes the snapshot for good. Then
librbd removes the parent from the clone's header. Between these steps, or if the process dies
there, opening the clone fails with "no such image".
"""

import contextlib

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, objects
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.objects import Header


def is_lost(connection: Connection, header: Header) -> bool:
    """Return whether an image has a parent whose snapshot, or pool, does not exist any more.

    Args:
        connection: to the cluster.
        header: the image's.
    """
    parent = header.parent
    if parent is None or parent.overlap is None:  # librbd opens the image without its parent
        return False
    try:
        images = Images(connection.ioctx(parent.pool_id, parent.namespace))
    except errors.NotFound:  # the pool was removed
        return True
    parent_header = images.header(parent.image_id)
    if parent_header is None:
        return True
    return all(each.snap_id != parent.snap_id for each in parent_header.snapshots)


def unopenable(kept: str) -> errors.Refused:
    """Return the error of an image or snapshot that stays, as no client can open the image."""
    return errors.Refused(
        f"{kept} exists and is not removed, because no client can open the image: it, or an "
        "ancestor of it, has lost its parent; `rbdcsi doctor` names that one (lost-parent), and "
        "the command that removes the parent from its header, so that its snapshots and copies "
        "read zeros instead of the lost data; then repeat the call"
    )


def detach(ioctx: rados.Ioctx, image_id: str) -> None:
    """Remove the parent from an image's header, as librbd does last (class method parent_detach).

    Data that was not copied from the parent reads as zeros afterwards. If another process, such as
    the one that flattens the image, has detached it already, nothing changes.

    Args:
        ioctx: the location of the image.
        image_id: the image.
    """
    with (
        ceph_errors.translated("detaching from its parent image", image_id),
        contextlib.suppress(rados.ObjectNotFound),
        rados.WriteOpCtx() as op,
    ):
        op.execute("rbd", "parent_detach", b"")
        ioctx.operate_write_op(op, objects.HEADER + image_id)
