"""Creations that were cut off inside librbd: recognised, and removed if nothing can be lost.

Any process may have died, or be about to go on. So only an image whose traces stay the same for
long is removed, by the clock of this process: objects carry the time of the client that wrote them,
whose clock may differ.
"""

from time import monotonic

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import creation
from rbdcsi.ceph.creation import Traces
from rbdcsi.ceph.locations import Location
from rbdcsi.ceph.objects import Header
from rbdcsi.model import ids
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec

_log = structlog.get_logger()

_OPERATIONS = 20  # more than librbd needs to create an image, and to clean up after an error
_LEAST_SECONDS = 300.0


def creation_seconds(operation_timeout: float) -> float:
    """Return how long the traces of a running creation can stay the same, with a wide margin."""
    return max(_LEAST_SECONDS, _OPERATIONS * operation_timeout)


class InterruptedCreations:
    """Knows since when this process has seen the traces of each creation unchanged."""

    def __init__(self, seconds: float) -> None:
        """Take a creation for cut off after so many seconds without a change."""
        self._seconds = seconds
        self._first_seen: dict[tuple[ids.LocationId, str], tuple[Traces, float]] = {}

    def finished(self, location: Location, name: str) -> tuple[str, Header] | None:
        """Return id and header of an image whose creation is finished, though it has no spec.

        Otherwise the creation was cut off: the image is removed, and the result is None.

        Raises:
            Busy: the creation may be under way, or another call creates or deletes the image.
            Refused: it is not certain that nothing is lost; the message says why.
        """
        traces = creation.read(location.ioctx, name)
        image_id, image = traces.image_id, f"image {location.pool}/{name}"
        if image_id is None:
            raise errors.Busy(f"{image} was removed while it was being created; try again")
        record = store.Records(location.ioctx).get(image_id)
        if record.deleting:
            raise errors.Busy(f"{image} is being deleted since {record.deleting}; try again")
        contradiction, missing = creation.contradiction(traces), creation.missing(traces)
        if traces.header and not contradiction and not missing:
            self._first_seen.pop((location.id, name), None)
            return image_id, traces.header
        self._require_old(location, name, traces, contradiction or f"it has no {missing} yet")
        reason = contradiction or _use(location, traces, image_id, record)
        if reason:
            raise errors.Refused(
                f"{image} (id {image_id}) can neither be used as it is nor be created again: "
                f"{reason}; look at it with `rbd`, then repair, rename or remove it"
            )
        if not creation.remove(location.ioctx, name, image_id, unless=spec.KEY):
            raise errors.Busy(f"{image} is being created by another process; try again")
        self._first_seen.pop((location.id, name), None)
        _log.info("removed an unfinished image", image=image, image_id=image_id, missing=missing)
        steps.done("create.removed", image=name, image_id=image_id)
        return None

    def _require_old(self, location: Location, name: str, traces: Traces, state: str) -> None:
        now = monotonic()
        seen, since = self._first_seen.setdefault((location.id, name), (traces, now))
        if seen != traces:
            self._first_seen[location.id, name] = traces, now
            since = now
        if now - since < self._seconds:
            raise errors.Busy(
                f"image {location.pool}/{name} is being created by another process ({state}), or "
                f"that was cut off; try again: if nothing changes for {self._seconds:.0f} s (so "
                f"far {now - since:.0f} s), it is created again"
            )


def _use(location: Location, traces: Traces, image_id: str, record: VolumeRecord) -> str | None:
    """Return the sign that the image is or was in use, None if there is none."""
    if record != VolumeRecord():
        return "it has an attachment record"
    if traces.header is None:
        return None  # data is written by clients that have opened the image, which needs a header
    if traces.header.snapshots:
        return "it has snapshots"
    if traces.header.parent:
        return "it is a clone"
    if location.images.holds_data(image_id):
        return "it holds data"
    watchers = location.images.watchers(image_id)
    return f"it is open by {', '.join(sorted(watchers))}" if watchers else None
