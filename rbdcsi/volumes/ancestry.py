"""The chain of an image's ancestors, by one read of a header each; no image is opened."""

from collections.abc import Iterator

from rbdcsi import errors
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import Parent
from rbdcsi.ceph.objects import Header

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
        try:
            images = Images(connection.ioctx(parent.pool_id, parent.namespace))
        except errors.NotFound:  # the pool is gone
            return
        parent_header = images.header(parent.image_id)
        if parent_header is None:
            return
        header, of_snapshots = parent_header, True  # a clone is made from a snapshot


def depth(connection: Connection, header: Header, *, of_snapshots: bool = False) -> int:
    """Return how many ancestors an image has; see `ancestors`."""
    return sum(1 for _ in ancestors(connection, header, of_snapshots=of_snapshots))
