"""The Ceph clusters that the driver knows, as `clusters_file` reads them."""

from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.config import keys, monitors_file
from rbdcsi.config.credentials import Credentials
from rbdcsi.config.secret import Secret


@dataclass(frozen=True)
class Cluster:
    """One Ceph cluster: its monitors, the user and key, and the default pool and namespace.

    `without_keys` is whether it checks no keys (no cephx).
    `mon_host` has the monitors; `monitors` are those of the configuration file itself.
    """

    cluster_id: str
    monitors: tuple[str, ...]
    conf_file: Path | None
    pool: str
    rados_namespace: str
    user: str
    key: Secret | None
    key_file: Path | None
    keyring: Path | None
    without_keys: bool = False
    monitors_file: Path | None = None

    def mon_host(self) -> str:
        """Return the monitors as Ceph takes them, empty if a ceph.conf has them.

        `monitors_file` is read at every call, because another program keeps it up to date.

        Raises:
            Unavailable: that file, which was right at the start, cannot be read any more or does
                not list them.
        """
        if self.monitors_file is None:
            return ",".join(self.monitors)
        try:
            return ",".join(monitors_file.read(self.monitors_file, self.cluster_id))
        except ValueError as error:
            raise errors.Unavailable(
                f"cluster {self.cluster_id}: {error}; correct the file: the next call reads it"
            ) from None

    def credentials(self) -> Credentials:
        """Return user and key. A key file or keyring is read at every call: a key may be rotated.

        Raises:
            Unavailable: the key file or keyring, which was there at the start, cannot be read any
                more or holds no key.
        """
        try:
            return Credentials(self.user, None if self.without_keys else self._current_key())
        except ValueError as error:
            raise errors.Unavailable(
                f"cluster {self.cluster_id}: {error}; put the key there again: the next call reads "
                "it"
            ) from None

    def _current_key(self) -> Secret:
        if self.key_file is not None:
            return keys.from_file(self.key_file)
        if self.keyring is not None:
            return keys.from_keyring(self.keyring, self.user)
        if self.key is not None:
            return self.key
        raise ValueError("it has no key, keyFile or keyring; configure one of them")


@dataclass(frozen=True)
class Config:
    """The configuration file."""

    clusters: tuple[Cluster, ...]

    def cluster(self, cluster_id: str) -> Cluster:
        """Return the cluster with that clusterID.

        Raises:
            InvalidRequest: the file lists no such cluster.
        """
        for cluster in self.clusters:
            if cluster.cluster_id == cluster_id:
                return cluster
        cluster_ids = ", ".join(cluster.cluster_id for cluster in self.clusters)
        raise errors.InvalidRequest(
            f"clusterID {cluster_id!r} is not in the driver's configuration, which has: "
            f"{cluster_ids}; correct the clusterID, or add the cluster"
        )
