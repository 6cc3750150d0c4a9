"""Pools that did not answer a moment ago, which work on many locations leaves out for a while."""

import time

import structlog

from rbdcsi import errors
from rbdcsi.model.ids import LocationId

_log = structlog.get_logger()


class SickPools:
    """Pools that did not answer; each is in it for some seconds. Threads may share it."""

    def __init__(self, seconds: float) -> None:
        """Leave a pool out for `seconds` after it did not answer."""
        self._seconds = seconds
        self._until: dict[tuple[str, int], float] = {}  # monotonic

    def __contains__(self, location: LocationId) -> bool:
        until = self._until.get((location.cluster_id, location.pool_id), 0.0)
        return time.monotonic() < until

    def add(self, location: LocationId, error: errors.Unavailable, left_out: str) -> None:
        """Add the pool of a location.

        Args:
            location: it did not answer.
            error: that it gave.
            left_out: what is not done for the pool's volumes, for the log.
        """
        if location not in self:
            _log.warning(
                "pool does not answer",
                cluster=location.cluster_id,
                pool=location.pool_id,
                left_out=left_out,
                error=str(error),
            )
        self._until[location.cluster_id, location.pool_id] = time.monotonic() + self._seconds
