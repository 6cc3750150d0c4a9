"""Watches of RADOS objects, and notifications that the watchers answer.

librados: rados_watch3, rados_aio_notify. A watcher's client need not do anything for Ceph to notice
that it is gone: its watch ends some seconds after its last sign of life.
"""

import ctypes
import errno
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import rados
import structlog

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, omap
from rbdcsi.ceph.connection import Ioctx

_log = structlog.get_logger()

_WATCH_SECONDS = 15  # after it Ceph forgets a watcher that shows no sign of life
_ANSWER_SECONDS = 1  # a living watcher answers within milliseconds; librados takes whole seconds
_SLACK_SECONDS = 4.0  # for the OSD to report who has not answered
_running: dict[int, rados.Completion] = {}  # librados writes into a notification until it ended


class Watch:
    """This process's watch of one object; `renew` makes it, and makes it again after it broke.

    librados knows the bindings' watch by its bare address, and the bindings crash if the garbage
    collector takes one, closed or not (rados.pyx, Watch.__dealloc__, after the collector has
    cleared its fields). So only a finalizer refers to it, until `close` or the end of the process.
    """

    def __init__(
        self, name: str, answer: Callable[[bytes], str], broke: Callable[[], None]
    ) -> None:
        """Create the watch without making it. Both functions run in a thread of librados.

        Args:
            name: the object's.
            answer: returns the answer to a notification; it must be quick and call no Ceph.
            broke: called when Ceph has ended the watch; it must see that `renew` is called.
        """
        self._name = name
        self._answer = answer
        self._broke = broke
        self._finalizer: weakref.finalize[[rados.Watch], Watch] | None = None
        self._ioctx: Ioctx | None = None

    def renew(self, ioctx: Ioctx) -> None:
        """Watch the object, unless a watch through this I/O context works already."""
        if self._ioctx is ioctx and self._works():
            return
        self.close()
        omap.touch(ioctx, [self._name])
        self.begin(ioctx)

    def begin(self, ioctx: Ioctx) -> None:
        """Watch the object, which must exist."""
        with ceph_errors.translated("watching object", self._name):
            watch = ioctx.watch(self._name, self._notified, self._ended, timeout=_WATCH_SECONDS)
        self._finalizer, self._ioctx = weakref.finalize(self, _close, watch), ioctx

    def close(self) -> None:
        """End the watch; the connection must still be there."""
        if self._finalizer:
            self._finalizer()

    def _works(self) -> bool:
        held = self._finalizer and self._finalizer.peek()
        if not held:
            return False
        try:
            held[2][0].check()
        except rados.Error as error:
            _log.warning("watch broke, to be renewed", object=self._name, error=str(error))
            return False
        return True

    def _notified(self, _notify_id: int, _notifier: str, _watch_id: int, data: bytes) -> str:
        try:
            return self._answer(data)
        except Exception as error:  # noqa: BLE001  it would end in a thread of librados
            _log.warning("notification not answered", object=self._name, error=str(error))
            return ""

    def _ended(self, _watch_id: int, error: int) -> None:
        _log.warning("watch ended by Ceph", object=self._name, error=errno.errorcode.get(-error))
        self._broke()


def _close(watch: rados.Watch) -> None:
    """Close the bindings' watch.

    If that fails, as for a client on the blocklist, librados has forgotten the watch, but the
    bindings would close it again, by a pointer that is no longer valid, when the object goes. So
    the object stays for ever.
    """
    try:
        watch.close()
    except rados.Error:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(watch))


@dataclass(frozen=True)
class Replies:
    """The answers to a notification, and the number of watchers that did not answer in time.

    `clients` are the ids of the clients of all watchers, which answered or not. If a watcher did
    not answer, the bindings may know neither the other answers nor the clients; `silent` is 1 then.
    """

    answers: tuple[bytes, ...] = ()
    silent: int = 0
    clients: frozenset[int] = frozenset()


def notify(ioctx: Ioctx, name: str, message: str, *, patience: float | None = None) -> Replies:
    """Send a message to the object's watchers and return what they answer within a second.

    Ceph returns all answers together, after a second if one of the watchers does not answer.

    Args:
        ioctx: the location of the object.
        name: the object.
        message: for the watchers.
        patience: after so many seconds none of them is waited for, and one counts as silent; None
            waits for the answer of Ceph.

    Raises:
        Unavailable: Ceph does not answer.
    """
    results: list[tuple[int, Replies]] = []
    ended = threading.Event()

    def complete(
        _completion: object,
        code: int,
        answers: list[tuple[int, int, bytes]] | None,
        silent: list[tuple[int, int]] | None,
    ) -> None:
        # Of a notification that a watcher did not answer, the bindings decode nothing.
        timed_out = code == -errno.ETIMEDOUT
        replies = Replies(
            answers=tuple(data for *_, data in answers or ()),
            silent=len(silent or ()) or int(timed_out),
            clients=frozenset(client for client, *_ in (*(answers or ()), *(silent or ()))),
        )
        results.append((code, replies))
        _running.pop(id(results), None)
        ended.set()

    with ceph_errors.translated("notifying the watchers of object", name) as doing:
        completion = ioctx.aio_notify(name, complete, message, timeout_ms=_ANSWER_SECONDS * 1000)
        if not ended.wait(_ANSWER_SECONDS + _SLACK_SECONDS if patience is None else patience):
            _running[id(results)] = completion
            if ended.is_set():
                _running.pop(id(results), None)
            if patience is not None:
                return Replies(silent=1)
            raise errors.Unavailable(f"{doing}: Ceph does not answer; check `ceph status`")
        code, replies = results[0]
        if code == -errno.ENOENT:  # an object that does not exist has no watchers
            return Replies()
        if code < 0 and code != -errno.ETIMEDOUT:
            raise ceph_errors.from_errno(code, "", doing)
        return replies
