"""How many snapshots an image may have. Pure.

The kernel maps no image that has more than 510 (Linux: drivers/block/rbd.c, RBD_MAX_SNAP_COUNT). A
device that is mapped already does not see further ones, so its writes would change them. Removed
snapshots that clones need count, too.
"""

from rbdcsi import errors
from rbdcsi.ceph.objects import Header

MOST = 500  # some calls may be under way


def require_room(header: Header, volume: object) -> None:
    """Refuse a further snapshot of an image that has as many as it may have.

    Args:
        header: the image's.
        volume: its handle, for the message.

    Raises:
        Exhausted: it has.
    """
    existing = len(header.snapshots)
    if existing >= MOST:
        users = len(header.user_snapshots())
        raise errors.Exhausted(
            f"volume {volume} has {users} snapshots and {existing - users} removed ones that its "
            f"copies need, and the kernel maps no image with many more than {MOST}: delete "
            "snapshots of it, or copies of it (`rbd children --all` lists them), or wait until its "
            "newest copies are flattened in the background (the metric rbdcsi_clones_deep)"
        )
