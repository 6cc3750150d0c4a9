"""Connections of tests to Ceph, with an end to every wait."""

from collections.abc import Mapping

import rados

from e2e.clusters import Cluster

# librados waits for ever by default; seconds.
BOUNDED: Mapping[str, str] = {"rados_mon_op_timeout": "20", "rados_osd_op_timeout": "20"}


def as_admin(cluster: Cluster, **options: str) -> rados.Rados:
    """Return a connection as the cluster's own user, which `with` opens and closes.

    Args:
        cluster: where to.
        options: of ceph.conf, over `BOUNDED`.
    """
    conf = {"keyring": str(cluster.keyring), **BOUNDED, **options}
    return rados.Rados(name=f"client.{cluster.user}", conffile=str(cluster.conf), conf=conf)
