"""A lease: only one of several processes holds it. It is a RADOS lock (`rados lock list`)."""

import contextlib
import uuid

import rados
import structlog

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors
from rbdcsi.ceph.connection import Ioctx

_log = structlog.get_logger()

SECONDS = 15  # the lease of a process that died ends after this time

_MAY_RENEW = 1  # LIBRADOS_LOCK_FLAG_MAY_RENEW


class Lease:
    """One process's view of a lease; it is a lock of this name on an existing object."""

    def __init__(self, ioctx: Ioctx, object_name: str, name: str) -> None:
        """Create the lease without taking it.

        Args:
            ioctx: the location of the object.
            object_name: the object that carries the lock.
            name: the lock's name.
        """
        self._ioctx = ioctx
        self._object = object_name
        self._name = name
        self._cookie = uuid.uuid4().hex

    def take(self) -> bool:
        """Take or renew the lease for `SECONDS`; return False if another process holds it."""
        with ceph_errors.translated("taking lease", f"{self._name} of {self._object}"):
            try:
                self._ioctx.lock_exclusive(
                    self._object, self._name, self._cookie, duration=SECONDS, flags=_MAY_RENEW
                )
            except rados.ObjectBusy:
                return False
        return True

    def release(self) -> None:
        """End the lease, so that others can take it; does nothing if it has expired."""
        with (
            ceph_errors.translated("releasing lease", f"{self._name} of {self._object}"),
            contextlib.suppress(rados.ObjectNotFound),
        ):
            self._ioctx.unlock(self._object, self._name, self._cookie)


def renewed(lease: Lease) -> bool:
    """Return whether the lease could be renewed; an error is logged."""
    try:
        return lease.take()
    except errors.RbdCsiError as error:
        _log.warning("lease lost, work is broken off", error=str(error))
        return False
