"""Pooled connections, one for each cluster and user; a blocklisted one is replaced."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.recent_failures import RecentFailures
from rbdcsi.config import clusters
from rbdcsi.config.credentials import Credentials
from rbdcsi.config.secret import Secret
from rbdcsi.runtime.turns import Turns

_log = structlog.get_logger()

_IDLE_SECONDS = 600.0  # a connection of a call's own user that is not used for so long is closed
_LOOK_SECONDS = 60.0
_RIGHTS_SECONDS = 5.0  # a client that may not do something is replaced at most so often
_RETIRED_SECONDS = 120.0  # a client that was replaced is closed then: a node's watch has moved on
_REFUSED_SECONDS = 30.0  # a new key that Ceph refuses is not tried again for so long


@dataclass(frozen=True)
class _RefusedKey:
    """A new key of a configured user, and when (monotonic) Ceph refused it."""

    key: Secret | None
    since: float


class Connections:
    """The pool of connections; `get` opens those that it lacks."""

    def __init__(self, configured: clusters.Config, *, timeout: float) -> None:
        """Pool connections to these clusters; one operation may take `timeout` seconds."""
        self.configured = configured
        self.timeout = timeout
        self._open: dict[tuple[str, str], Connection] = {}
        self._fsids: dict[str, str] = {}
        self._failures = RecentFailures(timeout)
        self._connecting = Turns(1)
        self._retired: dict[Connection, float] = {}  # with the time when they were replaced
        self._refused: dict[tuple[str, str], _RefusedKey] = {}
        self._mutex = threading.Lock()  # of the numbers of uses

    def get(self, cluster_id: str, credentials: Credentials | None = None) -> Connection:
        """Return the pooled connection, or a new one if there is none with this key.

        A cluster that did not answer is not asked again by each call: for some seconds, and while
        one call tries again, all others fail at once.

        If Ceph refuses a new key of the configured user, the connection by the former key goes on:
        while a user is replaced, a Pod that is not restarted yet has the next user's key.

        Args:
            cluster_id: a configured cluster.
            credentials: the user and key of the call; None takes the configured ones.

        Raises:
            InvalidRequest: no such cluster is configured.
            Unauthenticated, Unavailable: see `Connection.open`.
            DeadlineExceeded: another call still connects.
        """
        cluster = self.configured.cluster(cluster_id)
        is_configured = credentials is None
        credentials = credentials or cluster.credentials()
        if cluster.without_keys:
            credentials = Credentials(credentials.user, None)
        slot = (cluster_id, credentials.user)
        if pooled := self._pooled(slot, credentials.key, is_configured):
            return pooled
        self._failures.require_none(slot, credentials.key)
        with self._connecting.take(slot, f"another call that connects to cluster {cluster_id}"):
            if pooled := self._pooled(slot, credentials.key, is_configured):
                return pooled
            self._failures.require_none(slot, credentials.key)
            former = self._open.get(slot)
            try:
                with self._failures.attempt(slot, credentials.key):
                    connection = Connection.open(cluster, credentials, self.timeout)
            except errors.Unauthenticated as error:
                if former is None or former.key == credentials.key or not is_configured:
                    raise
                _log.warning("a new key is refused, the former one stays in use", error=str(error))
                self._refused[slot] = _RefusedKey(credentials.key, time.monotonic())
                return former
            if former:
                self._retired[former] = time.monotonic()
            self._open[slot] = connection
            self._fsids[cluster_id] = connection.fsid
        return connection

    def fsid(self, cluster_id: str) -> str | None:
        """Return the cluster's own id, None if no connection to it was made yet."""
        return self._fsids.get(cluster_id)

    @contextlib.contextmanager
    def use(self, cluster_id: str, credentials: Credentials | None = None) -> Iterator[Connection]:
        """Yield a connection, and replace it later if the body shows that it is of no use.

        After `ConnectionLost` the next call opens a new one, and after `Unavailable` if the
        configuration lists other monitors. After `Forbidden`, too, if some seconds have passed:
        OSDs and monitors know a client's rights from its authentication.
        """
        connection = self._begin_use(cluster_id, credentials)
        slot = (cluster_id, connection.user)
        try:
            yield connection
        except errors.Unavailable as error:
            is_lost = isinstance(error, ceph_errors.ConnectionLost)
            # librados asks only the monitors that it knows from before.
            is_useless = is_lost or connection.has_other_monitors()
            if is_useless and self._open.get(slot) is connection:  # not one of another call
                # It is never closed: a watch through it ends later, and the bindings would crash.
                self._open.pop(slot, None)
            raise
        except errors.Forbidden:
            connection.lacks_rights = True
            raise
        finally:
            with self._mutex:
                connection.uses -= 1
                connection.last_used = time.monotonic()

    def close_idle(self) -> float:
        """Close connections that no call uses any more; return the seconds until the next look.

        Those of the configured users stay, unless they were replaced: node plugins watch by them.
        """
        configured = {(each.cluster_id, each.user) for each in self.configured.clusters}
        before = time.monotonic() - _IDLE_SECONDS
        with self._mutex:
            idle = [
                slot
                for slot, connection in self._open.items()
                if slot not in configured and not connection.uses and connection.last_used < before
            ]
            closing = [self._open.pop(slot) for slot in idle]
            before = time.monotonic() - _RETIRED_SECONDS
            replaced = [
                connection
                for connection, since in self._retired.items()
                if since <= before and not connection.uses
            ]
            for connection in replaced:
                del self._retired[connection]
            closing += replaced
        for connection in closing:
            connection.close()
        return _LOOK_SECONDS

    def _begin_use(self, cluster_id: str, credentials: Credentials | None) -> Connection:
        while True:
            connection = self.get(cluster_id, credentials)
            with self._mutex:
                if self._open.get((cluster_id, connection.user)) is connection:
                    connection.uses += 1
                    return connection

    def _pooled(
        self, slot: tuple[str, str], key: Secret | None, is_configured: bool
    ) -> Connection | None:
        connection, now = self._open.get(slot), time.monotonic()
        if connection is None:
            return None
        if connection.key != key:
            refused = self._refused.get(slot) if is_configured else None
            is_refused = refused and refused.key == key and now - refused.since < _REFUSED_SECONDS
            return connection if is_refused else None
        if connection.lacks_rights and now - connection.since > _RIGHTS_SECONDS:
            return None
        return connection
