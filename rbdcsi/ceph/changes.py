"""Turns at an image: in this process, one client at a time has it open to change it.

librbd 16 ends its process by an assertion (`~AsyncOpTracker`, pending operations) if it closes an
image just when another client asks it, as the holder of the image's lock, for a change. That other
client may be the same process: librbd opens the parent of a clone that it removes, if the clone was
the last one of a removed snapshot.
"""

import contextlib

import rbd

from rbdcsi.model.image_layout import BITS
from rbdcsi.runtime.turns import Turns

_TURNS = Turns(1)


def turn(image_id: str) -> contextlib.AbstractContextManager[None]:
    """Return the turn of a caller that opens an image for a moment to change it.

    Raises:
        DeadlineExceeded: the caller's deadline passed before it had its turn.
    """
    return _TURNS.take(image_id, f"another call that changes image {image_id}")


def is_wanted(image_id: str) -> bool:
    """Return whether another caller waits for a turn at the image."""
    return _TURNS.is_wanted(image_id)


def lock(image: rbd.Image) -> None:
    """Take an open image's exclusive lock, if it has one, and keep it from other clients.

    Raises:
        rbd.Error: another client keeps it.
    """
    if image.features() & BITS["exclusive-lock"]:
        image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
