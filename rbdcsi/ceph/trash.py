"""Entries of RBD's trash, with their state; finishes a move to the trash that was cut off.

librbd shows no state. The format is RBD's own (Ceph source: src/cls/rbd/cls_rbd_types.h,
TrashImageSpec); a test compares it with what librbd says. librbd moves an image by these steps
(src/librbd/trash/MoveRequest.cc): write the entry, `moving`; remove the name's object; remove the
name from the directory; set the entry to `normal`.
"""

import contextlib
import enum
import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass

import rados

from rbdcsi import errors
from rbdcsi.ceph import header, omap, translate

OBJECT = header.TRASH

_HEAD = struct.Struct("<BBI")  # version, oldest version that can read it, length of the rest
_DIFFERS_AT_ONCE = 4095  # cmpext's answer on the first byte, also of an object that is missing
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
    """Read an entry; ValueError if it is none."""
    try:
        version, _, _ = _HEAD.unpack_from(value)
        name = header.text(value[_HEAD.size + 1 :])  # a byte, the source, comes before
        at = _HEAD.size + 1 + 4 + len(name.encode()) + _TIMES_BYTES
        return Entry(name, State(value[at]) if version > 1 else State.NORMAL)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not an entry of the trash: {error!r}") from error


def begin_entry(ioctx: rados.Ioctx, image_id: str) -> Callable[[], Entry | None]:
    """Begin to read the image's entry; what is returned waits for it, None if there is none."""
    reading = omap.Reading(ioctx, OBJECT, _key(image_id))

    def finish() -> Entry | None:
        value = reading()
        try:
            return None if value is None else decode(value)
        except ValueError as error:
            raise errors.Failed(f"image {image_id} in the trash: {error}") from error

    return finish


def finish_move(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Finish a move that was cut off; a repeat, and one at the same time, change nothing more.

    librbd would resume it by the name, which may be that of a newer image by now. Each step here
    looks at the id in the operation that changes something.

    Args:
        ioctx: where the image is.
        image_id: the image, whose entry in the trash is `moving`.
        name: from that entry.
    """
    with translate.translated("finishing the move to the trash of image", image_id):
        _remove_name_object(ioctx, image_id, name)
        directory_entry = header.counted(name) + header.counted(image_id)
        with contextlib.suppress(rados.ObjectNotFound):
            _execute(ioctx, header.DIRECTORY, "dir_remove_image", directory_entry)
        _set_normal(ioctx, image_id)


def _remove_name_object(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Remove the object that leads from the name to the image, unless it leads to another one."""
    try:
        with rados.WriteOpCtx() as op:
            op.cmpext(header.counted(image_id))
            op.remove()
            ioctx.operate_write_op(op, header.ID + name)
    except (rados.ObjectNotFound, rados.ExtendMismatch):
        pass
    except rados.OSError as error:
        if abs(translate.errno_of(error)) != _DIFFERS_AT_ONCE:
            raise


def _set_normal(ioctx: rados.Ioctx, image_id: str) -> None:
    """Set the entry's state to `normal` if it is `moving`; otherwise another call was first."""
    states = bytes((State.NORMAL.value, State.MOVING.value))  # to be set, expected
    try:
        _execute(ioctx, OBJECT, "trash_state_set", header.counted(image_id) + states)
    except rados.ObjectNotFound:
        pass
    except rados.OSError as error:
        if abs(translate.errno_of(error)) != errno.ESTALE:
            raise


def _execute(ioctx: rados.Ioctx, name: str, method: str, argument: bytes) -> None:
    with rados.WriteOpCtx() as op:
        op.execute("rbd", method, argument)
        ioctx.operate_write_op(op, name)


def _key(image_id: str) -> str:
    return f"id_{image_id}"
