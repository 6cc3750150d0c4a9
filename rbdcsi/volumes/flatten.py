"""The flattening of one image, in a thread of its own, while the lease of the caller is renewed."""

import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import TypeVar

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import cloning, lease, locations
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.ceph.flattening import Claims

_RENEW_SECONDS = lease.SECONDS / 3
_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.5  # between two looks whether to break off


@dataclass(frozen=True)
class Flattening:
    """The flattening of one claimed image.

    Attributes:
        location: of the image.
        ioctx: the same location, opened by the connection that copies data.
        image_id: the image.
        location_lease: the caller's; the work renews it.
    """

    location: locations.Location
    ioctx: Ioctx
    image_id: str
    location_lease: lease.Lease

    def run(self, client: str) -> bool:
        """Flatten; return False if it was broken off, for a change of the image or a lost lease.

        Args:
            client: the address of the client that copies, which has claimed the image.

        Raises:
            Busy: a client that has the image mapped does not answer.
        """
        claims, stopping = Claims(self.location.ioctx), threading.Event()

        def may_go_on() -> bool:
            is_there = self.location.images.name_of(self.image_id) is not None
            return is_there and claims.is_undisturbed(self.image_id, client)

        return self._watched(
            lambda: cloning.flatten(
                self.ioctx,
                self.image_id,
                self._writers(),
                stopping.is_set,
                lambda: claims.note_last(self.image_id, client),
            ),
            may_go_on,
            stopping,
        )

    def mend(self) -> bool:
        """Make the object map valid after a cut-off flattening; return False if it cannot now."""
        try:
            self._watched(
                lambda: cloning.mend_map(self.ioctx, self.image_id, self._writers()),
                lambda: True,
                threading.Event(),
            )
        except errors.Busy:
            return False
        return True

    def _watched(
        self, work: Callable[[], _Result], may_go_on: Callable[[], bool], stopping: threading.Event
    ) -> _Result:
        """Do the work; set `stopping` if it may not go on, or the lease is lost."""
        with futures.ThreadPoolExecutor(1, "flatten") as executor:
            working = executor.submit(work)
            try:
                renewed_at = time.monotonic()
                while futures.wait([working], _LOOK_SECONDS).not_done:
                    if time.monotonic() - renewed_at > _RENEW_SECONDS:
                        renewed_at = time.monotonic()
                        if not lease.renewed(self.location_lease):
                            stopping.set()
                    if not stopping.is_set() and not may_go_on():
                        stopping.set()
            finally:
                stopping.set()
        return working.result()

    def _writers(self) -> frozenset[str]:
        return store.Records(self.location.ioctx).get(self.image_id).writers()
