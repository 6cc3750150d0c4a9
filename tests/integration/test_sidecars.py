"""The sidecars of growth and snapshots, at a real API server: what users ask for reaches Ceph.

No kubelet and no controller of Kubernetes runs here, so claims are bound by the test.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import rados
import rbd

from e2e import volume
from e2e.clusters.ports import claimed_loopback
from e2e.driver import Driver
from e2e.kubernetes import build, chart, control_plane, snapshots
from e2e.kubernetes.addresses import Loopback
from e2e.kubernetes.client import Kubernetes
from e2e.pool import image_id
from e2e.volume import MIB, Volume

pytestmark = [pytest.mark.kubernetes, pytest.mark.smoke, pytest.mark.timeout(900)]

_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "rbd"},
    "provisioner": chart.DRIVER,
    "allowVolumeExpansion": True,
}
_SNAPSHOTS = "snapshot.storage.k8s.io/v1"


@pytest.fixture(scope="module")
def kubernetes(controller: Driver, temporary: Path) -> Iterator[Kubernetes]:
    """Give an API server at which the sidecars work for the controller."""
    directory = Path(tempfile.mkdtemp(prefix="s", dir=temporary))
    with (
        claimed_loopback() as address,
        control_plane.api_server(directory, Loopback(address)) as running,
    ):
        kubernetes, kubeconfig = running.client, running.client.kubeconfig
        snapshots.add_api(kubernetes)
        kubernetes.apply(_CLASS)
        running.parts.start(snapshots.CONTROLLER, snapshots.controller(kubeconfig))
        for name in ("csi-resizer", "csi-snapshotter"):
            flags = [f"--kubeconfig={kubeconfig}", f"--csi-address={controller.socket}"]
            running.parts.start(name, [build.build(name), *flags])
        yield kubernetes


@pytest.fixture
def made(controller: Driver, kubernetes: Kubernetes) -> Iterator[Volume]:
    """Give a volume with a claim, `data`."""
    volume_made = volume.create(controller, "claimed", size=64 * MIB)
    kubernetes.apply(_volume(volume_made), _claim("64Mi"))
    claim = kubernetes.get("pvc", "data", "default")
    assert claim
    reference = {"uid": claim["metadata"]["uid"], "name": "data", "namespace": "default"}
    _patch(kubernetes, "pv", "claimed", {"spec": {"claimRef": reference}})
    bound = {"phase": "Bound", "capacity": {"storage": "64Mi"}, "accessModes": ["ReadWriteOnce"]}
    _patch(kubernetes, "pvc", "data", {"status": bound}, "--subresource=status")
    _patch(kubernetes, "pv", "claimed", {"status": {"phase": "Bound"}}, "--subresource=status")
    yield volume_made
    for kind in ("pvc/data", "pv/claimed"):
        kubernetes.kubectl("delete", kind, "--wait=false")
        kubernetes.kubectl("patch", kind, "--patch", '{"metadata": {"finalizers": null}}')
    volume.delete(controller, volume_made)


def test_a_claim_that_asks_for_more_gets_a_larger_image(
    kubernetes: Kubernetes, made: Volume, admin: rados.Rados, pool: str
) -> None:
    _ask_for(kubernetes, "1Gi")
    kubernetes.wait_for("pv", "claimed", "jsonpath={.spec.capacity.storage}=1Gi")
    with admin.open_ioctx(pool) as ioctx, rbd.Image(ioctx, image_id=image_id(made)) as image:
        assert image.size() == 1 << 30
    # A node has to grow the filesystem.
    pending = "jsonpath={.status.allocatedResourceStatuses.storage}=NodeResizePending"
    kubernetes.wait_for("pvc", "data", pending, "default")


def test_a_claim_that_asks_for_too_much_can_be_lowered(
    kubernetes: Kubernetes, made: Volume, admin: rados.Rados, pool: str
) -> None:
    _ask_for(kubernetes, "1Ei")
    infeasible = "jsonpath={.status.allocatedResourceStatuses.storage}=ControllerResizeInfeasible"
    kubernetes.wait_for("pvc", "data", infeasible, "default")
    claim = kubernetes.get("pvc", "data", "default")
    assert claim
    messages = {each["type"]: each.get("message", "") for each in claim["status"]["conditions"]}
    assert "more than an image" in messages["ControllerResizeError"]
    _ask_for(kubernetes, "2Gi")
    kubernetes.wait_for("pv", "claimed", "jsonpath={.spec.capacity.storage}=2Gi")
    with admin.open_ioctx(pool) as ioctx, rbd.Image(ioctx, image_id=image_id(made)) as image:
        assert image.size() == 2 << 30
    pending = "jsonpath={.status.allocatedResourceStatuses.storage}=NodeResizePending"
    kubernetes.wait_for("pvc", "data", pending, "default")


def test_a_snapshot_of_a_claim_is_one_of_its_image(
    kubernetes: Kubernetes, made: Volume, admin: rados.Rados, pool: str
) -> None:
    kubernetes.apply(
        {
            "apiVersion": _SNAPSHOTS,
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "rbd"},
            "driver": chart.DRIVER,
            "deletionPolicy": "Delete",
        },
        {
            "apiVersion": _SNAPSHOTS,
            "kind": "VolumeSnapshot",
            "metadata": {"name": "before", "namespace": "default"},
            "spec": {
                "volumeSnapshotClassName": "rbd",
                "source": {"persistentVolumeClaimName": "data"},
            },
        },
    )
    ready = "jsonpath={.status.readyToUse}=true"
    kubernetes.wait_for("volumesnapshot", "before", ready, "default")
    with admin.open_ioctx(pool) as ioctx, rbd.Image(ioctx, image_id=image_id(made)) as image:
        (taken,) = image.list_snaps()
        assert taken["size"] == 64 * MIB
        kubernetes.delete("volumesnapshot", "before", "default")
        kubernetes.wait(lambda: not list(image.list_snaps()), "Ceph has no snapshot any more")


def _ask_for(kubernetes: Kubernetes, size: str) -> None:
    """Change the size that the claim asks for."""
    _patch(kubernetes, "pvc", "data", {"spec": {"resources": {"requests": {"storage": size}}}})


def _volume(made: Volume) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "claimed"},
        "spec": {
            "capacity": {"storage": "64Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "rbd",
            "claimRef": {"name": "data", "namespace": "default"},
            "csi": {"driver": chart.DRIVER, "volumeHandle": made.id, "fsType": "ext4"},
        },
    }


def _claim(size: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "rbd",
            "volumeName": "claimed",
            "resources": {"requests": {"storage": size}},
        },
    }


def _patch(
    kubernetes: Kubernetes, kind: str, name: str, change: dict[str, object], *flags: str
) -> None:
    kubernetes.kubectl("patch", kind, name, *flags, "--patch", json.dumps(change))
