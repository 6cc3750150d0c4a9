"""A connection to a cluster, by librados.

librados bounds its calls by its own timeouts, with one exception: a look-up of a pool that the
local map lacks waits for the monitors without limit. So a bounded command asks the monitors first.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, monitor
from rbdcsi.config import clusters, keys
from rbdcsi.config import monitors as mon_hosts
from rbdcsi.config.credentials import Credentials

Ioctx: TypeAlias = rados.Ioctx  # an open pool and RADOS namespace


@dataclass(frozen=True)
class Pool:
    """A pool: its number and name."""

    pool_id: int
    name: str


class Connection:
    """A connected librados client and its open I/O contexts."""

    def __init__(
        self, client: rados.Rados, cluster: clusters.Cluster, credentials: Credentials
    ) -> None:
        """Wrap a connected client; see `open`.

        Args:
            client: a client that is connected to the cluster.
            cluster: the cluster.
            credentials: the user and key of the client.
        """
        self._rados = client
        self._cluster = cluster
        self.cluster_id = cluster.cluster_id
        self.user = credentials.user
        self.key = credentials.key
        self.fsid: str = client.get_fsid()
        self.since = time.monotonic()
        self.lacks_rights = False
        self.uses = 0  # bodies of `Connections.use` that run
        self._ioctxs: dict[tuple[int, str], Ioctx] = {}
        self._pools: frozenset[int] = frozenset()  # that the monitors listed last
        self.last_used = time.monotonic()
        self._mon_host = str(client.conf_get("mon_host") or "")

    @classmethod
    def open(cls, cluster: clusters.Cluster, credentials: Credentials, timeout: float) -> Self:
        """Return a new connection.

        Args:
            cluster: the cluster to connect to.
            credentials: the user and key.
            timeout: the longest time of one operation, or of connecting, in seconds.

        Raises:
            Unauthenticated: the user or key is wrong.
            Unavailable: no monitor answers, or is found by its name. A wrong key gives the same
                error if librados tries a protocol that the monitor does not serve.
        """
        seconds = math.ceil(timeout)
        settings = _settings(cluster, credentials, seconds)
        target = f"{cluster.cluster_id} as client.{credentials.user}"
        with ceph_errors.translated("connecting to cluster", target):
            try:
                client = rados.Rados(
                    name=f"client.{credentials.user}",
                    conffile=str(cluster.conf_file) if cluster.conf_file else None,  # "" searches
                    conf=settings,
                )
                client.connect()
            except rados.ObjectNotFound as error:
                raise errors.Unavailable(
                    f"connecting to cluster {target}: the ceph.conf ({cluster.conf_file}) or the "
                    "monitors' names are not found; check the file, and the DNS of this Pod"
                ) from error
            except rados.TimedOut as error:
                raise errors.Unavailable(
                    f"connecting to cluster {target}: no monitor let the driver in within "
                    f"{seconds} s; check the cluster (`ceph status`), the network, and "
                    f"the key against `ceph auth get client.{credentials.user}`; if the monitors "
                    "are given without a port, give IP:3300, where a wrong key is refused at once"
                ) from error
            except rados.InvalidArgumentError as error:
                if _has_names(client):
                    raise errors.Unavailable(
                        f"connecting to cluster {target}: librados does not find a monitor by its "
                        "name, or does not accept the configuration; check the DNS of this Pod, "
                        "and compare the configuration with a ceph.conf that works"
                    ) from error
                raise errors.Unauthenticated(
                    f"connecting to cluster {target}: librados does not accept the configuration; "
                    f"{keys.remark(credentials.key) or 'compare it with a ceph.conf that works'}"
                ) from error
        return cls(client, cluster, credentials)

    def has_other_monitors(self) -> bool:
        """Return whether the configuration lists other monitors than when this was opened."""
        with contextlib.suppress(errors.Unavailable):
            text = self._cluster.mon_host()
            return text not in {"", self._mon_host}
        return False

    @property
    def monitors(self) -> str:
        """The monitors' addresses in the form of `mon_host`.

        If the configuration has names, or leaves the monitors to the DNS, they are those of the
        monitors' own map: the kernel resolves no names.
        """
        text = self._cluster.mon_host() or str(self._rados.conf_get("mon_host") or "")
        with contextlib.suppress(ValueError):  # librados connected by it all the same
            if mon_hosts.without_names(text):
                return text
        mons = self.command("mon dump")["mons"]
        vectors = [mon["public_addrs"]["addrvec"] for mon in mons]
        return ",".join(
            "[" + ",".join(f"{each['type']}:{each['addr']}" for each in vector) + "]"
            for vector in vectors
        )

    def command(self, prefix: str, **arguments: object) -> Any:
        """Run a monitor command; see `monitor.run`."""
        return monitor.run(self._rados, prefix, **arguments)

    def address(self) -> str:
        """Return this client's address as Ceph sees it, `ip:port/nonce`."""
        return str(self._rados.get_addrs())

    def wait_for_newest_map(self) -> None:
        """Return when this client has the newest OSD map of the monitors.

        Raises:
            Unavailable: they do not answer.
        """
        self.command("fsid")  # the wait itself has no time limit
        with ceph_errors.translated("waiting for the newest OSD map"):
            self._rados.wait_for_latest_osdmap()

    def pool_named(self, name: str) -> Pool:
        """Return the pool with that name.

        Raises:
            NotFound: the cluster has no such pool.
        """
        with ceph_errors.translated("looking up pool", repr(name)):
            exists = name in self._rados.list_pools()
        # the local map may be older than the pool
        if not exists and not any(pool.name == name for pool in self.pools()):
            raise errors.NotFound(
                f"cluster {self.cluster_id} has no pool {name!r}; `ceph osd pool ls` lists them"
            )
        return Pool(int(self._rados.pool_lookup(name) or 0), name)

    def pool_numbered(self, pool_id: int) -> Pool:
        """Return the pool with that number.

        Raises:
            NotFound: the cluster has no such pool.
        """
        for pool in self.pools():
            if pool.pool_id == pool_id:
                return pool
        raise errors.NotFound(
            f"cluster {self.cluster_id} has no pool number {pool_id}; "
            "`ceph osd pool ls detail` lists them"
        )

    def pools(self) -> list[Pool]:
        """Return every pool of the cluster, from the monitors' newest map."""
        pools = [Pool(pool["poolnum"], pool["poolname"]) for pool in self.command("osd lspools")]
        self._pools = frozenset(pool.pool_id for pool in pools)
        return pools

    def ioctx(self, pool_id: int, namespace: str) -> Ioctx:
        """Return the I/O context of a pool and RADOS namespace; it may be used by any thread.

        Raises:
            NotFound: the cluster has no pool with that number.
        """
        ioctx = self._ioctxs.get((pool_id, namespace))
        if ioctx is None:
            if pool_id not in self._pools:
                self.pool_numbered(pool_id)
            with ceph_errors.translated("opening pool number", pool_id):
                ioctx = self._rados.open_ioctx2(pool_id)
            ioctx.set_namespace(namespace)
            # A full pool answers ENOSPC at once; by default the call waits until there is space.
            ioctx.set_osdmap_full_try()
            self._ioctxs[pool_id, namespace] = ioctx
        return ioctx

    def allows_overwrites(self, pool: Pool) -> bool:
        """Return whether a pool takes data of images; an erasure-coded one does not by default.

        Raises:
            Unavailable: the monitors do not answer.
        """
        ioctx = self.ioctx(pool.pool_id, "")
        if ioctx.alignment() is None:
            return True
        self.wait_for_newest_map()  # the local one may be older than the permission
        return ioctx.alignment() is None

    @contextlib.contextmanager
    def own_ioctx(self, pool_id: int, namespace: str) -> Iterator[Ioctx]:
        """Open an I/O context that only the body uses; see `ioctx`."""
        self.ioctx(pool_id, namespace)  # the pool exists
        with ceph_errors.translated("opening pool number", pool_id):
            ioctx = self._rados.open_ioctx2(pool_id)
        with ioctx:
            ioctx.set_namespace(namespace)
            yield ioctx

    def home(self) -> Ioctx:
        """Return the I/O context of the cluster's configured pool and RADOS namespace.

        It holds the objects that belong to no volume, such as the node registry.
        """
        pool = self.pool_named(self._cluster.pool)
        return self.ioctx(pool.pool_id, self._cluster.rados_namespace)

    def namespaces(self, pool: Pool) -> list[str]:
        """Return the names of a pool's RADOS namespaces, besides the default one.

        A user that is limited to the configured namespace may not list them, and knows that one.
        """
        own = self._cluster.rados_namespace if pool.name == self._cluster.pool else ""
        try:
            with ceph_errors.translated("listing the RADOS namespaces of pool", pool.name):
                return sorted(rbd.RBD().namespace_list(self.ioctx(pool.pool_id, "")))
        except errors.Forbidden:
            if own:
                return [own]
            raise

    def close(self) -> None:
        """End the connection; nothing may use it or its I/O contexts any more."""
        for ioctx in self._ioctxs.values():
            ioctx.close()
        self._ioctxs.clear()
        self._rados.shutdown()


def _has_names(client: rados.Rados) -> bool:
    """Return whether a monitor is given by a name."""
    with contextlib.suppress(ValueError):
        return not mon_hosts.without_names(str(client.conf_get("mon_host") or ""))
    return False


def _settings(cluster: clusters.Cluster, credentials: Credentials, seconds: int) -> dict[str, str]:
    """Return librados' settings beside those of the cluster's ceph.conf."""
    timeout = str(seconds)
    settings = {
        "key": credentials.key.reveal() if credentials.key else "",
        "keyring": "",
        "rados_osd_op_timeout": timeout,
        "rados_mon_op_timeout": timeout,
        "client_mount_timeout": timeout,
        # Otherwise librados writes to our stderr, between the structured log lines.
        "log_to_stderr": "false",
        "err_to_stderr": "false",
        "log_file": "",
        "admin_socket": "",
        # attachments/fencing.py puts clients on the blocklist, for longer than librbd would
        "rbd_blocklist_on_break_lock": "false",
        # With format 1, a snapshot with clones could not be removed.
        "rbd_default_clone_format": "2",
    }
    if cluster.without_keys:
        settings["auth_client_required"] = "none"
    if mon_host := cluster.mon_host():
        settings["mon_host"] = mon_host
    return settings
