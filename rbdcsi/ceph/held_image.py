"""An image whose exclusive lock and snapshot are taken in a thread; see snapshots_together.py."""

import contextlib
import threading
from dataclasses import dataclass

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, objects, writers
from rbdcsi.ceph.forwarding import ForwardingWatch
from rbdcsi.ceph.open_image import OpenImage

_END_SECONDS = 1.0  # for a thread to close an image whose lock it has
_SEQUENCE = "snap_seq"  # key of the header: the id of the newest snapshot


@dataclass(frozen=True)
class Target:
    """An image and the name of its snapshot.

    Attributes:
        ioctx: its location.
        probing: an I/O context of its location that nothing else uses: librados keeps the version
            of the last object there that was read.
        image_id: the image.
        snapshot: the name.
        writers: the addresses of the clients by which nodes have the image mapped for writing.
    """

    ioctx: rados.Ioctx
    probing: rados.Ioctx
    image_id: str
    snapshot: str
    writers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """The version of a header, which each write increases, and the id of the newest snapshot."""

    version: int
    newest: int


class HeldImage:
    """An image, and the thread that takes its lock and its snapshot."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._header = objects.HEADER + target.image_id
        with ceph_errors.translated("opening image", target.image_id):
            self._image = rbd.Image(target.ioctx, image_id=target.image_id)
        try:
            self._forwarding = ForwardingWatch(target.ioctx, self._header)
        except BaseException:
            self._close()
            raise
        self._opened = OpenImage(target.image_id, self._image)
        self._mutex = threading.Lock()
        self._begun = False
        self._snapshotting = False
        self._abandoned = False
        self._error: Exception | None = None
        self._flushed = threading.Event()
        self._all_flushed = threading.Event()
        self._ended = threading.Event()

    def require_answers(self) -> None:
        """Refuse an image of which a client does not answer: librbd would break its lock.

        Raises:
            Busy: one does not.
        """
        target = self.target
        writers.require_answers(target.ioctx, self._opened, target.image_id, target.writers)

    def require_watching(self) -> None:
        """Refuse an image that a client of a node has mapped, and does not watch.

        Raises:
            Busy: one does not.
        """
        writers.require_watching(self._opened, self.target.image_id, self.target.writers)

    def begin(self, *, asks_twice: bool) -> None:
        """Begin to take the lock, and then the snapshot.

        Args:
            asks_twice: whether the thread waits for `go_on` when it had the lock, takes it again,
                and only then the snapshot.
        """
        self._begun = True
        if not asks_twice:
            self._all_flushed.set()
        threading.Thread(target=self._run, name="snapshot", daemon=True).start()

    def has_flushed(self) -> bool:
        """Return whether the other clients have handed the lock over once."""
        return self._flushed.is_set() or self.has_ended()

    def go_on(self) -> None:
        """Take the lock again, which may be lost by now, and then the snapshot."""
        self._all_flushed.set()

    def holds_lock(self) -> bool:
        """Return whether this process has the lock now; librbd asks the OSD."""
        with ceph_errors.translated("looking at the lock of image", self.target.image_id):
            return self._image.is_exclusive_lock_owner()

    def state(self) -> State:
        """Return the version of the header, and its newest snapshot, by one read."""
        ioctx = self.target.probing
        with ceph_errors.translated("reading the header of image", self.target.image_id):
            with rados.ReadOpCtx() as op:
                values, _ = ioctx.get_omap_vals_by_keys(op, (_SEQUENCE,))
                ioctx.operate_read_op(op, self._header)
                sequence = dict(values).get(_SEQUENCE) or b""
            return State(ioctx.get_last_version(), int.from_bytes(sequence, "little"))

    def snap_id(self) -> int:
        """Return RBD's id of the snapshot that was taken."""
        with ceph_errors.translated("looking at the snapshot of image", self.target.image_id):
            return self._image.snap_get_id(self.target.snapshot)

    def may_be_anothers(self) -> bool:
        """Return whether another client may have taken the snapshot, when the thread has ended."""
        return self._forwarding.may_have_seen()

    def has_ended(self) -> bool:
        """Return whether the thread has ended.

        Raises:
            Refused: another client keeps the lock.
            Busy: the image has a snapshot of that name.
            RbdCsiError: the lock or the snapshot could not be taken.
        """
        if not self._ended.is_set():
            return False
        if isinstance(self._error, rbd.ReadOnlyImage):
            raise errors.Refused(
                f"image {self.target.image_id}: the client that has its lock keeps it (krbd's "
                "option `exclusive`); map it without that option"
            )
        if isinstance(self._error, rbd.ImageExists):
            raise errors.Busy(
                f"image {self.target.image_id}: another call took snapshot "
                f"{self.target.snapshot!r} just now; try again"
            )
        if self._error:
            doing = f"taking the snapshot of image {self.target.image_id}"
            raise ceph_errors.from_exception(self._error, doing) from self._error
        return True

    def end(self, *, keep: bool) -> None:
        """Wait for a snapshot that is being taken, remove it unless it is kept, return the lock."""
        try:
            self._end(keep=keep)
        finally:
            self._forwarding.close()

    def _end(self, *, keep: bool) -> None:
        with self._mutex:
            self._abandoned = True
            waits = self._begun and not self._snapshotting and not self._ended.is_set()
        self._all_flushed.set()
        if waits:  # the thread closes the image, now or when the other client hands the lock over
            self._ended.wait(_END_SECONDS)
            return
        if self._begun:
            self._ended.wait()
        try:
            if not keep and self._snapshotting and not isinstance(self._error, rbd.ImageExists):
                self._remove_snapshot()
        finally:
            self._close()

    def _remove_snapshot(self) -> None:
        doing = ceph_errors.translated("removing the snapshot of image", self.target.image_id)
        with doing, contextlib.suppress(rbd.ImageNotFound):
            self._image.remove_snap(self.target.snapshot)

    def _run(self) -> None:
        try:
            self._image.flush()  # librbd takes the lock for it, as for a write
            self._flushed.set()
            if not self._all_flushed.is_set():
                self._all_flushed.wait()
                if not self._abandoned:
                    self._image.flush()
            with self._mutex:
                if self._abandoned:
                    self._close()
                    return
                self._snapshotting = True
            self._image.create_snap(self.target.snapshot)
        except rbd.Error as error:
            self._error = error
        finally:
            self._ended.set()

    def _close(self) -> None:
        with contextlib.suppress(rbd.Error):
            self._image.close()
