"""RBD's trash: its entries with their state, and the end of a move that was cut off.

librbd's API shows no state. The format is RBD's own (Ceph source: src/cls/rbd/cls_rbd_types.h,
TrashImageSpec); a test compares it with what librbd says. librbd moves an image by these steps
(src/librbd/trash/MoveRequest.cc): write the entry, `moving`; remove the name's object; remove the
name from the directory; set the entry to `normal`.

librbd goes by the name, and releases the image's lock before it begins. So of two moves at the same
time, the second can take away the name of a newer image, or move that one. `move` does the same
steps by the id, and the OSD checks the id in the same operation that changes something.
"""

import contextlib
import enum
import errno
import struct
import time
from dataclasses import dataclass

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, names, objects, omap
from rbdcsi.runtime.futures import Future

OBJECT = objects.TRASH

_HEAD = struct.Struct("<BBI")  # version, oldest version that can read it, length of the rest
_BY_USER = 0  # TRASH_IMAGE_SOURCE_USER
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


def id_of(ioctx: rados.Ioctx, name: str) -> str | None:
    """Return the id of an image in the trash that had this name, None if there is none."""
    with ceph_errors.translated("listing the trash"):
        entries = rbd.RBD().trash_list(ioctx)
        return next((entry["id"] for entry in entries if entry["name"] == name), None)


def _entry(image_id: str, value: bytes | None) -> Entry | None:
    try:
        return None if value is None else decode(value)
    except ValueError as error:
        raise errors.Failed(f"image {image_id} in the trash: {error}") from error


def move(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Move an image to the trash; a repeat, also a concurrent one, changes nothing more.

    Args:
        ioctx: the location of the image.
        image_id: the image, whose lock the caller has.
        name: of the image.
    """
    with ceph_errors.translated("moving to the trash image", image_id):
        now = int(time.time())
        with contextlib.suppress(rados.ObjectExists):  # by a move that was cut off
            _execute(ioctx, "trash_add", objects.counted(image_id) + _encode(name, now))
    finish_move(ioctx, image_id, name)


def _encode(name: str, now: int) -> bytes:
    """Return the entry of an image that a user moves; see `decode`."""
    times = struct.pack("<4I", now, 0, now, 0)
    body = bytes((_BY_USER,)) + objects.counted(name) + times + bytes((State.MOVING.value,))
    return _HEAD.pack(2, 1, len(body)) + body


def finish_move(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Finish a move that was cut off; a repeat, also a concurrent one, changes nothing more.

    Args:
        ioctx: where the image is.
        image_id: the image, whose entry in the trash is `moving`.
        name: from that entry.
    """
    with ceph_errors.translated("finishing the move to the trash of image", image_id):
        names.remove(ioctx, name, image_id)
        _set_state(ioctx, image_id, State.NORMAL, State.MOVING)  # unless another call was first


def begin_removal(ioctx: rados.Ioctx, image_id: str) -> None:
    """Note that an image's data is being removed: librbd does not restore the image from then on.

    Raises:
        NotFound: the image is in the trash no more, or is being restored.
    """
    with ceph_errors.translated("beginning the removal of image", image_id):
        begun = _set_state(ioctx, image_id, State.REMOVING, State.NORMAL)
    if not begun:
        raise errors.NotFound(f"image {image_id} is in the trash no more, or is being restored")


def _set_state(ioctx: rados.Ioctx, image_id: str, state: State, expected: State) -> bool:
    """Set the entry's state; return False if there is no entry, or it has neither of the two."""
    states = bytes((state.value, expected.value))
    try:
        _execute(ioctx, "trash_state_set", objects.counted(image_id) + states)
    except rados.ObjectNotFound:
        return False
    except rados.OSError as error:
        if abs(ceph_errors.errno_of(error)) != errno.ESTALE:
            raise
        return False
    return True


def _execute(ioctx: rados.Ioctx, method: str, argument: bytes) -> None:
    with rados.WriteOpCtx() as op:
        op.execute("rbd", method, argument)
        ioctx.operate_write_op(op, OBJECT)
