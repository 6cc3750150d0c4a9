"""A lease: of several processes, one does a work. It is a RADOS lock (`rados lock list`)."""

import contextlib
import uuid

import rados

from rbdcsi.ceph import ceph_errors
from rbdcsi.ceph.connections import Ioctx

SECONDS = 15  # others wait so long for a holder that died

_MAY_RENEW = 1  # LIBRADOS_LOCK_FLAG_MAY_RENEW


class Lease:
    """A lease by name, on an object that exists, for one holder."""

    def __init__(self, ioctx: Ioctx, object_name: str, name: str) -> None:
        self._ioctx = ioctx
        self._object = object_name
        self._name = name
        self._cookie = uuid.uuid4().hex

    def take(self) -> bool:
        """Take it, or keep it, for `SECONDS`; False while somebody else has it."""
        with ceph_errors.translated("taking lease", f"{self._name} of {self._object}"):
            try:
                self._ioctx.lock_exclusive(
                    self._object, self._name, self._cookie, duration=SECONDS, flags=_MAY_RENEW
                )
            except rados.ObjectBusy:
                return False
        return True

    def release(self) -> None:
        """Release it; a lease that has run out is released already."""
        with (
            ceph_errors.translated("releasing lease", f"{self._name} of {self._object}"),
            contextlib.suppress(rados.ObjectNotFound),
        ):
            self._ioctx.unlock(self._object, self._name, self._cookie)
