"""Sees whether librbd leaves a snapshot to another client.

If another client has the image's lock, librbd sends it a request to take the snapshot, and does not
take the lock itself. Nothing then shows that this process had the lock until the snapshot.

The request goes to all watchers of the header object, and that it is done comes by a later
notification. The client of Ceph delivers notifications of one object in their order, one at a time.
So a watch by the same client has seen the request when librbd returns.
"""

import struct
import threading

from rbdcsi.ceph.connection import Ioctx
from rbdcsi.ceph.watch import Watch

# Ceph source: src/librbd/WatchNotifyTypes.h. Two versions and the length come before it.
_OPERATION = struct.Struct("<BBII")
_SNAP_CREATE = 8


class ForwardingWatch:
    """A watch of an image's header, which is to be closed."""

    def __init__(self, ioctx: Ioctx, header: str) -> None:
        """Watch the header, which must exist.

        Args:
            ioctx: its location, of the connection by which librbd has the image open.
            header: the name of the object.
        """
        self._seen = threading.Event()
        self._watch = Watch(header, self._look, broke=self._seen.set)
        self._watch.begin(ioctx)

    def may_have_seen(self) -> bool:
        """Return whether a snapshot was asked for, or the watch broke and may have missed that."""
        return self._seen.is_set()

    def close(self) -> None:
        """End the watch."""
        self._watch.close()

    def _look(self, message: bytes) -> str:
        if is_request_of_snapshot(message):
            self._seen.set()
        return ""  # librbd takes any other text for the answer of the lock's owner


def is_request_of_snapshot(message: bytes) -> bool:
    """Return whether a notification asks the owner of the image's lock to take a snapshot."""
    if len(message) < _OPERATION.size:
        return False
    return bool(_OPERATION.unpack_from(message)[-1] == _SNAP_CREATE)
