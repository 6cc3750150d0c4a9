"""`python -m e2e.clusters start|stop|status`: one local cluster to play with.

A holder process owns it; the cluster ends when the holder does, whatever ends it.
"""

import os
import tempfile
from pathlib import Path

from e2e import clusters, holder
from e2e.clusters import local

DIRECTORY = Path(tempfile.gettempdir()) / f"rbdcsi-cluster-{os.getuid()}"
POOL, USER = "volumes", "rbdcsi"
HOLDER = holder.Holder("the cluster", DIRECTORY, "e2e.clusters", 120)
USAGE = """\
Ceph {fsid} runs in {directory} (process {holder}).

  export CEPH_CONF={directory}/ceph.conf      # then, as client.admin:
  ceph status
  rbd create {pool}/first --size 1G && rbd ls -l {pool}

The driver's configuration:

  clusters:
    - clusterID: {fsid}
      confFile: {directory}/ceph.conf
      pool: {pool}
      user: {user}
      keyring: {directory}/{user}.keyring

Stop it with: make cluster-stop"""


def _own() -> None:
    with local.LocalCluster(DIRECTORY) as cluster:
        cluster.create_pool(POOL)
        key = cluster.create_user(USER, clusters.driver_caps(POOL))
        keyring = DIRECTORY / f"{USER}.keyring"
        keyring.touch(mode=0o600)
        keyring.write_text(f"[client.{USER}]\n\tkey = {key.reveal()}\n")
        HOLDER.hold({"fsid": cluster.fsid})


def _usage() -> str:
    return USAGE.format(**HOLDER.facts, directory=DIRECTORY, pool=POOL, user=USER)


if __name__ == "__main__":
    holder.program(__doc__, HOLDER, _usage, _own)()
