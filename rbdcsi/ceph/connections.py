"""Pooled connections: one for each cluster, user and key, remade when Ceph dropped it.

librados is bounded by its own timeouts. One call is not: looking up a pool that the local map
lacks waits for the monitors without limit, so the monitors are asked first by a bounded command.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, monitor
from rbdcsi.config import clusters
from rbdcsi.config.credentials import Credentials

Ioctx: TypeAlias = rados.Ioctx  # a pool and RADOS namespace, opened


@dataclass(frozen=True)
class Pool:
    """A pool by number and name."""

    pool_id: int
    name: str


class Connection:
    """A connected librados client with the I/O contexts it has opened."""

    def __init__(
        self, client: rados.Rados, cluster: clusters.Cluster, credentials: Credentials
    ) -> None:
        self._rados = client
        self._cluster = cluster
        self.cluster_id = cluster.cluster_id
        self.user = credentials.user
        self.key = credentials.key
        self.fsid: str = client.get_fsid()
        self._ioctxs: dict[tuple[int, str], Ioctx] = {}

    @classmethod
    def open(cls, cluster: clusters.Cluster, credentials: Credentials, timeout: float) -> Self:
        """Connect.

        Args:
            cluster: how to reach it.
            credentials: user and key.
            timeout: seconds until one operation, or connecting, is given up.

        Raises:
            Unauthenticated: the user or key is wrong.
            Unavailable: no monitor answers; librados says the same of a wrong key when it tries a
                second protocol of a monitor that has only one.
        """
        seconds = str(math.ceil(timeout))
        settings = {
            "key": credentials.key.reveal(),
            "keyring": "",
            "rados_osd_op_timeout": seconds,
            "rados_mon_op_timeout": seconds,
            "client_mount_timeout": seconds,
            # librados writes to our stderr otherwise, between the structured lines.
            "log_to_stderr": "false",
            "err_to_stderr": "false",
            "log_file": "",
            "admin_socket": "",
        }
        if cluster.monitors:
            settings["mon_host"] = ",".join(cluster.monitors)
        whom = f"{cluster.cluster_id} as client.{credentials.user}"
        with ceph_errors.translated("connecting to cluster", whom):
            client = rados.Rados(
                name=f"client.{credentials.user}",
                conffile=str(cluster.conf_file) if cluster.conf_file else None,  # "" would search
                conf=settings,
            )
            try:
                client.connect()
            except rados.TimedOut as error:
                raise errors.Unavailable(
                    f"connecting to cluster {whom}: no monitor let the driver in within "
                    f"{seconds} s; check the cluster (`ceph status`), the network, and the key "
                    f"against `ceph auth get client.{credentials.user}`; if the monitors are given "
                    "without a port, give IP:3300, where a wrong key is refused at once"
                ) from error
        return cls(client, cluster, credentials)

    @property
    def monitors(self) -> str:
        """The monitors' addresses as `mon_host` has them."""
        return str(self._rados.conf_get("mon_host"))

    def command(self, prefix: str, **arguments: object) -> Any:
        """Run a monitor command; see `commands.run`."""
        return monitor.run(self._rados, prefix, **arguments)

    def address(self) -> str:
        """Return this client as Ceph sees it, `ip:port/nonce`."""
        return str(self._rados.get_addrs())

    def pool_named(self, name: str) -> Pool:
        """Return the pool of that name.

        Raises:
            NotFound: the cluster has no such pool.
        """
        with ceph_errors.translated("looking up pool", repr(name)):
            known = name in self._rados.list_pools()
        for pool in () if known else self.pools():
            known = known or pool.name == name
        if not known:
            raise errors.NotFound(
                f"cluster {self.cluster_id} has no pool {name!r}; `ceph osd pool ls` lists them"
            )
        return Pool(int(self._rados.pool_lookup(name) or 0), name)

    def pool_numbered(self, pool_id: int) -> Pool:
        """Return the pool of that number; NotFound if there is none."""
        for pool in self.pools():
            if pool.pool_id == pool_id:
                return pool
        raise errors.NotFound(f"cluster {self.cluster_id} has no pool number {pool_id}")

    def pools(self) -> list[Pool]:
        """Return every pool of the cluster, as the monitors know it now."""
        return [Pool(pool["poolnum"], pool["poolname"]) for pool in self.command("osd lspools")]

    def ioctx(self, pool_id: int, namespace: str) -> Ioctx:
        """Return the I/O context of a pool and RADOS namespace; it may be used by any thread.

        Raises:
            NotFound: no pool of that number.
        """
        ioctx = self._ioctxs.get((pool_id, namespace))
        if ioctx is None:
            self.pool_numbered(pool_id)
            with ceph_errors.translated("opening pool number", pool_id):
                ioctx = self._rados.open_ioctx2(pool_id)
            ioctx.set_namespace(namespace)
            # A full pool answers ENOSPC at once instead of holding the call until there is room.
            ioctx.set_osdmap_full_try()
            self._ioctxs[pool_id, namespace] = ioctx
        return ioctx

    def home(self) -> Ioctx:
        """Return the I/O context of the cluster's configured pool and RADOS namespace.

        Objects that belong to no volume, such as the node registry, are there.
        """
        pool = self.pool_named(self._cluster.pool)
        return self.ioctx(pool.pool_id, self._cluster.rados_namespace)

    def namespaces(self, pool: Pool) -> list[str]:
        """Return the names of a pool's RADOS namespaces, beside the default one."""
        with ceph_errors.translated("listing the RADOS namespaces of pool", pool.name):
            return sorted(rbd.RBD().namespace_list(self.ioctx(pool.pool_id, "")))


class Connections:
    """The pool of connections: `get` makes one where there is none."""

    def __init__(self, configured: clusters.Config, *, timeout: float) -> None:
        """Keep connections to the configured clusters; `timeout` bounds one operation, seconds."""
        self.configured = configured
        self._timeout = timeout
        self._open: dict[tuple[str, str], Connection] = {}
        self._fsids: dict[str, str] = {}
        self._locks = {c.cluster_id: threading.Lock() for c in configured.clusters}

    def get(self, cluster_id: str, credentials: Credentials | None = None) -> Connection:
        """Return a connection, made anew if the key has changed.

        Args:
            cluster_id: a configured cluster.
            credentials: the call's own user and key; None takes the configured ones.

        Raises:
            InvalidRequest: no such cluster is configured.
            Unauthenticated, Unavailable: see `Connection.open`.
        """
        cluster = self.configured.cluster(cluster_id)
        wanted = credentials or cluster.credentials()
        slot = (cluster_id, wanted.user)
        found = self._open.get(slot)
        if found and found.key == wanted.key:
            return found
        with self._locks[cluster_id]:
            found = self._open.get(slot)
            if not found or found.key != wanted.key:
                found = self._open[slot] = Connection.open(cluster, wanted, self._timeout)
                self._fsids[cluster_id] = found.fsid
        return found

    def fsid(self, cluster_id: str) -> str | None:
        """Return the cluster's own id, None if no connection to it was made yet."""
        return self._fsids.get(cluster_id)

    @contextlib.contextmanager
    def use(self, cluster_id: str, credentials: Credentials | None = None) -> Iterator[Connection]:
        """Give the body a connection; one that Ceph shuts meanwhile is forgotten.

        The call that met it ends with its error, the next one gets a new client.
        """
        connection = self.get(cluster_id, credentials)
        try:
            yield connection
        except ceph_errors.ConnectionLost:
            slot = (cluster_id, connection.user)
            if self._open.get(slot) is connection:  # another call may have made a new one
                self._open.pop(slot, None)
            raise
