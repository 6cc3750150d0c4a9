"""`python -m e2e.clusters start|stop|status`: one local cluster to play with.

A holder process owns it; the cluster ends when the holder does, whatever ends it.
"""

import os
import tempfile
from pathlib import Path

from e2e import clusters, holder
from e2e.clusters import local

DIRECTORY = Path(tempfile.gettempdir()) / f"rbdcsi-cluster-{os.getuid()}"
POOL = "volumes"
HOLDER = holder.Holder("the cluster", DIRECTORY, "e2e.clusters", 120)
USAGE = """\
Ceph {fsid} runs in {directory} (process {holder}).

  export CEPH_CONF={directory}/ceph.conf      # then, as client.admin:
  ceph status
  rbd create {pool}/first --size 1G && rbd ls -l {pool}

The configuration of controllers; node plugins have the user rbdcsi-node and its keyring:

  clusters:
    - clusterID: {fsid}
      confFile: {directory}/ceph.conf
      pool: {pool}
      user: rbdcsi-controller
      keyring: {directory}/rbdcsi-controller.keyring

Stop it with: make cluster-stop"""


def _own() -> None:
    with local.LocalCluster(DIRECTORY) as cluster:
        cluster.create_pool(POOL)
        cluster.create_keyring("rbdcsi-controller", clusters.controller_caps(POOL), DIRECTORY)
        cluster.create_keyring("rbdcsi-node", clusters.node_caps(POOL), DIRECTORY)
        HOLDER.hold({"fsid": cluster.fsid})


def _usage() -> str:
    return USAGE.format(**HOLDER.facts, directory=DIRECTORY, pool=POOL)


if __name__ == "__main__":
    holder.program(__doc__, HOLDER, _usage, _own)()
