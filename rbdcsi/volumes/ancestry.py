"""The chain of an image's ancestors, by one read of a header each; no image is opened."""

from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import ImageSnapshot, Parent
from rbdcsi.ceph.objects import Header
from rbdcsi.volumes.clone_rules import CROWDED

_MOST = 64  # clients refuse to open a chain that is longer than 16


def ancestors(
    connection: Connection, header: Header, *, of_snapshots: bool = False
) -> Iterator[Parent]:
    """Yield the ancestors of an image, the parent first; those in the trash, too.

    Args:
        connection: to the cluster.
        header: the image's.
        of_snapshots: also an ancestor from which only snapshots of the image read.
    """
    for _ in range(_MOST):
        parent = header.parent
        if parent is None or (parent.overlap is None and not of_snapshots):
            return
        yield parent
        parent_header = header_of(connection, parent)
        if parent_header is None:
            return
        header, of_snapshots = parent_header, True  # a clone is made from a snapshot


def header_of(connection: Connection, parent: Parent) -> Header | None:
    """Return the header of a parent's image, None if the image or its pool is gone."""
    try:
        images = Images(connection.ioctx(parent.pool_id, parent.namespace))
    except errors.NotFound:
        return None
    return images.header(parent.image_id)


def depth(connection: Connection, header: Header, *, of_snapshots: bool = False) -> int:
    """Return how many ancestors an image has; see `ancestors`."""
    return sum(1 for _ in ancestors(connection, header, of_snapshots=of_snapshots))


def crowding(connection: Connection, header: Header) -> ImageSnapshot | None:
    """Return the snapshot that an image reads from, if its parent has too many snapshots."""
    parent = header.parent
    if parent is None or parent.overlap is None:
        return None
    parent_header = header_of(connection, parent)
    if parent_header is None or len(parent_header.snapshots) < CROWDED:
        return None
    return next((each for each in parent_header.snapshots if each.snap_id == parent.snap_id), None)
