"""Calls about volumes and snapshots of a cluster that the driver's configuration does not have."""

from rbdcsi import errors
from rbdcsi.config.clusters import Config


def require_existing(config: Config, cluster_id: str, what: str) -> None:
    """Refuse a call for something that must exist.

    Args:
        config: the driver's configuration.
        cluster_id: the cluster in the object's id.
        what: the object, for the message.

    Raises:
        NotFound: the cluster is not configured.
    """
    if not _has(config, cluster_id):
        raise errors.NotFound(
            f"{what} does not exist: its cluster {cluster_id} is not in the driver's "
            "configuration; correct the id, or add the cluster"
        )


def require(config: Config, cluster_id: str, what: str) -> None:
    """Refuse a call that would count as done although nothing was done; see `require_existing`.

    Raises:
        Refused: the cluster is not configured.
    """
    if not _has(config, cluster_id):
        raise errors.Refused(
            f"{what}: its cluster {cluster_id} is not in the driver's configuration, so nothing "
            "was changed; add the cluster, then repeat the call"
        )


def _has(config: Config, cluster_id: str) -> bool:
    return any(cluster.cluster_id == cluster_id for cluster in config.clusters)
