"""RBD's trash: its entries with their state, and the end of a move that was cut off.

librbd's API shows no state. The format is RBD's own (Ceph source: src/cls/rbd/cls_rbd_types.h,
TrashImageSpec); a test compares it with what librbd says. librbd moves an image by these steps
(src/librbd/trash/MoveRequest.cc): write the entry, `moving`; remove the name's object; remove the
name from the directory; set the entry to `normal`.
"""

import enum
import errno
import struct
from dataclasses import dataclass

import rados

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, names, objects, omap
from rbdcsi.runtime.futures import Future

OBJECT = objects.TRASH

_HEAD = struct.Struct("<BBI")  # version, oldest version that can read it, length of the rest
_TIMES_BYTES = 16  # of deletion, and of the end of the deferment


class State(enum.Enum):
    """How far the move into the trash, or out of it, is."""

    NORMAL = 0
    MOVING = 1
    REMOVING = 2
    RESTORING = 3


@dataclass(frozen=True)
class Entry:
    """An image in the trash; `name` is the one that it had."""

    name: str
    state: State


def decode(value: bytes) -> Entry:
    """Return the entry in that value; raises ValueError if it is none."""
    try:
        version, _, _ = _HEAD.unpack_from(value)
        name = objects.text(value[_HEAD.size + 1 :])  # a byte, the source, comes before
        at = _HEAD.size + 1 + 4 + len(name.encode()) + _TIMES_BYTES
        return Entry(name, State(value[at]) if version > 1 else State.NORMAL)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not an entry of the trash: {error!r}") from error


def begin_entry(ioctx: rados.Ioctx, image_id: str) -> Future[Entry | None]:
    """Begin to read the image's entry, None if the image is not in the trash.

    Raises:
        Failed: the entry cannot be decoded.
    """
    return omap.begin_read(ioctx, OBJECT, f"id_{image_id}").then(
        lambda value: _entry(image_id, value)
    )


def _entry(image_id: str, value: bytes | None) -> Entry | None:
    try:
        return None if value is None else decode(value)
    except ValueError as error:
        raise errors.Failed(f"image {image_id} in the trash: {error}") from error


def finish_move(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Finish a move that was cut off; a repeat, also a concurrent one, changes nothing more.

    librbd would resume the move by the name, which a newer image may have by now.

    Args:
        ioctx: where the image is.
        image_id: the image, whose entry in the trash is `moving`.
        name: from that entry.
    """
    with ceph_errors.translated("finishing the move to the trash of image", image_id):
        names.remove(ioctx, name, image_id)
        _set_normal(ioctx, image_id)


def _set_normal(ioctx: rados.Ioctx, image_id: str) -> None:
    """Set the entry's state to `normal` if it is `moving`; otherwise another call was first."""
    states = bytes((State.NORMAL.value, State.MOVING.value))  # to be set, expected
    try:
        with rados.WriteOpCtx() as op:
            op.execute("rbd", "trash_state_set", objects.counted(image_id) + states)
            ioctx.operate_write_op(op, OBJECT)
    except rados.ObjectNotFound:
        pass
    except rados.OSError as error:
        if abs(ceph_errors.errno_of(error)) != errno.ESTALE:
            raise
