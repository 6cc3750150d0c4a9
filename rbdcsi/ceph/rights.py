"""What the Ceph user may do, found by trying what fails for another reason if it may.

Ceph checks the user's capabilities before anything else: without the right the answer is EPERM or
EACCES, with it the request fails, because it names an object or an address that cannot exist. So
nothing is changed.
"""

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, objects
from rbdcsi.ceph.connection import Connection, Ioctx

_NO_OBJECT = "rbdcsi.doctor"  # the driver makes no object of this name
_NO_DATA = "rbd_data.rbdcsi"  # an image's data has its id and a number in the name
_NO_CLIENT = "none/1"  # has the form of `ip:port/nonce`, as `profile rbd` demands, and is none


def may_fence(connection: Connection) -> bool:
    """Return whether the user may put a client on the blocklist.

    Raises:
        Unavailable: the monitors do not answer.
    """
    return _may_change_blocklist(connection, "add")


def may_lift(connection: Connection) -> bool:
    """Return whether the user may remove a client from the blocklist; `profile rbd` may not.

    Raises:
        Unavailable: the monitors do not answer.
    """
    return _may_change_blocklist(connection, "rm")


def _may_change_blocklist(connection: Connection, verb: str) -> bool:
    try:
        connection.command("osd blocklist", blocklistop=verb, addr=_NO_CLIENT)
    except errors.Forbidden:
        return False
    except errors.Failed:  # EINVAL
        return True
    return True


def may_change_images(ioctx: Ioctx) -> bool:
    """Return whether the user may remove objects, and call RBD's class methods, in a location.

    Raises:
        Unavailable: the pool does not answer.
    """
    return _may_remove(ioctx, _NO_OBJECT)


def may_remove_data(ioctx: Ioctx) -> bool:
    """Return whether the user may remove objects with data of images, in a pool for data alone.

    Raises:
        Unavailable: the pool does not answer.
    """
    return _may_remove(ioctx, _NO_DATA)


def _may_remove(ioctx: Ioctx, name: str) -> bool:
    try:
        with (
            ceph_errors.translated("trying the rights in a location"),
            rados.WriteOpCtx() as op,
        ):
            op.remove()  # no such object: the operation ends here
            op.execute("rbd", "metadata_set", objects.metadata_set_argument({}))
            ioctx.operate_write_op(op, name)
    except errors.Forbidden:
        return False
    except errors.NotFound:
        return True
    return True
