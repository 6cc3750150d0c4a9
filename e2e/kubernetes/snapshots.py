"""The API of snapshots: its CRDs, its objects, and the controller, which is no driver's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.kubernetes import build, chart
from e2e.kubernetes.client import Kubernetes, Object

CONTROLLER = "snapshot-controller"

_CRDS = "github.com/kubernetes-csi/external-snapshotter/client/v8"
_API, _GROUP_API = "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io"
_KINDS = {
    _API: ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"),
    _GROUP_API: (
        "volumegroupsnapshotclasses",
        "volumegroupsnapshotcontents",
        "volumegroupsnapshots",
    ),
}


def add_api(kubernetes: Kubernetes) -> None:
    """Make the CRDs, and return when the API server serves them."""
    directory = build.sources("snapshotter", _CRDS) / "config/crd"
    kubernetes.kubectl("apply", "--server-side", "-k", str(directory))
    names = [f"crd/{plural}.{api}" for api, plurals in _KINDS.items() for plural in plurals]
    kubernetes.kubectl("wait", "--for=condition=Established", *names)


def controller(kubeconfig: Path) -> Sequence[str | Path]:
    """Return the command of the controller, which ends where the CRDs are missing."""
    return [build.build(CONTROLLER), f"--kubeconfig={kubeconfig}"]


def snapshot(name: str, claim: str) -> Object:
    """Return a VolumeSnapshot of a claim."""
    return {
        "apiVersion": f"{_API}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeSnapshotClassName": chart.CLASS,
            "source": {"persistentVolumeClaimName": claim},
        },
    }


def group(name: str, labels: Mapping[str, str]) -> Object:
    """Return a VolumeGroupSnapshot of the claims with these labels."""
    return {
        "apiVersion": f"{_GROUP_API}/v1",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeGroupSnapshotClassName": chart.CLASS,
            "source": {"selector": {"matchLabels": labels}},
        },
    }


def source(name: str) -> Object:
    """Return the source of a claim that is restored from a VolumeSnapshot."""
    return {"apiGroup": _API, "kind": "VolumeSnapshot", "name": name}
