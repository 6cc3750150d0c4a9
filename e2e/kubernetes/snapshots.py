"""The API of snapshots: its CRDs, and the controller, which is Kubernetes' and no driver's."""

from collections.abc import Sequence
from pathlib import Path

from e2e.kubernetes import build
from e2e.kubernetes.client import Kubernetes

CONTROLLER = "snapshot-controller"

_CRDS = "github.com/kubernetes-csi/external-snapshotter/client/v8"
_PLURALS = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")


def add_api(kubernetes: Kubernetes) -> None:
    """Make the CRDs, and return when the API server serves them."""
    directory = build.sources("snapshotter", _CRDS) / "config/crd"
    kubernetes.kubectl("apply", "--server-side", "-k", str(directory))
    names = [f"crd/{plural}.snapshot.storage.k8s.io" for plural in _PLURALS]
    kubernetes.kubectl("wait", "--for=condition=Established", *names)


def controller(kubeconfig: Path) -> Sequence[str | Path]:
    """Return the command of the controller, which ends where the CRDs are missing."""
    return [build.build(CONTROLLER), f"--kubeconfig={kubeconfig}"]
