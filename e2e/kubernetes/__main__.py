"""`python -m e2e.kubernetes start|stop|status`: a Kubernetes with the driver, to play with.

A holder process owns it; everything ends when the holder does, whatever ends it.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from e2e import holder
from e2e.clusters.daemons import SweptDirectory
from e2e.kubernetes import build, chart, lab
from e2e.release import image, programs

DIRECTORY = Path(tempfile.gettempdir()) / f"rbdcsi-kubernetes-{os.getuid()}"
HOLDER = holder.Holder("Kubernetes", DIRECTORY, "e2e.kubernetes", 3600)  # with nothing built yet
USAGE = """\
Kubernetes runs in {directory} (process {holder}), with two nodes and the driver on them.

  export KUBECONFIG={directory}/control-plane/kubeconfig PATH={path}:$PATH
  kubectl get nodes,pods -A -o wide
  kubectl get storageclasses

Its Ceph:

  export CEPH_CONF={ceph_conf}
  rbd ls -l {pool}

The tests run on it by `make e2e-kubernetes` when these are set, too:

  export RBDCSI_TEST_CLUSTER=existing RBDCSI_TEST_CEPH_CONF={ceph_conf}
  export RBDCSI_TEST_CEPH_KEYRING={ceph_keyring}

Stop it with: make kubernetes-stop"""


def _own() -> None:
    DIRECTORY.mkdir(mode=0o700)
    with contextlib.ExitStack() as undo:
        undo.enter_context(SweptDirectory(DIRECTORY))
        running = undo.enter_context(lab.running(DIRECTORY, image.archive()))
        chart.install(running.kubernetes, chart.prepare(running.cluster, DIRECTORY, "krbd"))
        ceph = {
            "ceph_conf": str(running.cluster.conf),
            "ceph_keyring": str(running.cluster.keyring),
        }
        HOLDER.hold(ceph)


def _usage() -> str:
    path = f"{build.build('kubectl').parent}:{programs.built('helm').parent}"
    return USAGE.format(**HOLDER.facts, directory=DIRECTORY, path=path, pool=chart.POOL)


if __name__ == "__main__":
    holder.program(__doc__, HOLDER, _usage, _own)()
