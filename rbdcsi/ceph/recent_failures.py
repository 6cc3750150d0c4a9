"""Remembers attempts to connect that failed, so that calls fail at once instead of one by one."""

import contextlib
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

from rbdcsi import errors
from rbdcsi.config.secret import Secret

_SECONDS = 5.0


@dataclass(frozen=True)
class _Failure:
    key: Secret | None
    message: str
    since: float  # monotonic, as `until`
    until: float


class RecentFailures:
    """The last failure to connect, by cluster and user."""

    def __init__(self, timeout: float) -> None:
        """An attempt takes at most `timeout` seconds."""
        self._timeout = timeout
        self._failures: dict[Hashable, _Failure] = {}

    def require_none(self, slot: Hashable, key: Secret | None) -> None:
        """Check that an attempt with this key makes sense now.

        Raises:
            Unavailable: the last one failed a moment ago, or another call is trying again.
        """
        failure, now = self._failures.get(slot), time.monotonic()
        if failure and failure.key == key and now < failure.until:
            raise errors.Unavailable(
                f"{failure.message} (tried {now - failure.since:.0f} s ago, and soon again)"
            )

    @contextlib.contextmanager
    def attempt(self, slot: Hashable, key: Secret | None) -> Iterator[None]:
        """Remember whether the body, which connects, fails because Ceph does not answer."""
        if failure := self._failures.get(slot):  # others fail while this call tries again
            until = time.monotonic() + self._timeout + _SECONDS
            self._failures[slot] = replace(failure, until=until)
        try:
            yield
        except errors.Unavailable as error:
            now = time.monotonic()
            self._failures[slot] = _Failure(key, str(error), now, now + _SECONDS)
            raise
        except errors.RbdCsiError:
            self._failures.pop(slot, None)
            raise
        self._failures.pop(slot, None)
