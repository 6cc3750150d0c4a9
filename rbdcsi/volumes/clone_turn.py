"""A controller's turn at the clones of one location."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVarTuple

import structlog

from rbdcsi import errors
from rbdcsi.ceph import lease, locations

_log = structlog.get_logger()
_Arguments = TypeVarTuple("_Arguments")


@dataclass(frozen=True)
class Turn:
    """The location, and the lease that keeps other controllers from it."""

    location: locations.Location
    lease: lease.Lease

    def take(self, clone: str, step: Callable[[*_Arguments], bool], *args: *_Arguments) -> bool:
        """Do one step; an error is logged, and keeps no other clone from its step.

        Args:
            clone: an image, or the token of an attempt, for the log.
            step: returns False if it has to be repeated soon.
            args: of the step.

        Returns:
            The result of the step, False after an error.

        Raises:
            Busy: the lease is lost.
            Unavailable: the pool does not answer.
        """
        if not lease.renewed(self.lease):
            raise errors.Busy("another controller looks after the clones now")
        try:
            return step(*args)
        except errors.Unavailable:
            raise
        except errors.RbdCsiError as error:
            _log.warning(
                "a clone was not looked after, to be repeated",
                pool=self.location.pool,
                clone=clone,
                error=str(error),
            )
            return False
