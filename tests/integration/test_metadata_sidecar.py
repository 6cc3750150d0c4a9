"""Changed blocks as backup programs get them: by the real sidecar, with the rights of the chart.

Its own library for such programs finds the service by the chart's object, proves itself by a token
for a ServiceAccount, and checks the certificate. The account has the rights of the example.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rados
import rbd
import yaml

from e2e import errors, snapshots, volume
from e2e.clusters import commands, ports
from e2e.driver import Driver
from e2e.kubernetes import build, chart, control_plane, definitions
from e2e.kubernetes import snapshots as api
from e2e.kubernetes.addresses import Loopback
from e2e.kubernetes.client import Kubernetes
from e2e.pool import image_id
from e2e.release import manifests
from e2e.volume import MIB
from rbdcsi.api import csi_pb2

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

_SNAPSHOTS = "snapshot.storage.k8s.io"
_RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_SERVICE = "SnapshotMetadataService"
_EXAMPLE = manifests.ROOT / "deploy/examples/snapshot-metadata.yaml"
_ACCOUNT = "backup"  # that of the example


@dataclass(frozen=True)
class Service:
    """An API server with the sidecars, and a directory for kubeconfigs."""

    kubernetes: Kubernetes
    directory: Path

    def kubeconfig(self, account: str, namespace: str) -> Path:
        """Return a kubeconfig with the rights of a ServiceAccount."""
        described = yaml.safe_load(self.kubernetes.kubeconfig.read_text())
        token = self.kubernetes.kubectl("create", "token", account, "-n", namespace)
        described["users"][0]["user"] = {"token": token.strip()}
        file = self.directory / f"{account}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(described))
        return file

    def blocks(self, account: str, *words: str) -> list[tuple[int, int]]:
        """Return the blocks that a backup program gets: their offsets and sizes in bytes."""
        kubeconfig = self.kubeconfig(account, "default")
        flags = [f"--kubeconfig={kubeconfig}", f"--account={account}", *words]
        records: list[dict[str, Any]] = json.loads(
            commands.run([build.build("lister"), *flags], timeout=60)
        )
        return [
            (block.get("byte_offset", 0), block["size_bytes"])
            for record in records
            for block in record["block_metadata"]
        ]


@pytest.fixture(scope="module")
def service(controller: Driver, temporary: Path) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="m", dir=temporary))
    with (
        ports.claimed_loopback() as address,
        ports.claimed_pair("127.0.0.1") as port,
        control_plane.api_server(directory, Loopback(address)) as running,
    ):
        made = Service(running.client, directory)
        kubernetes = made.kubernetes
        api.add_api(kubernetes)
        definitions.add_snapshot_metadata(kubernetes)
        certificate = running.authority.issue("metadata", "/CN=metadata", "IP:127.0.0.1")
        ca = running.authority.root.certificate.read_text()
        _install(kubernetes, f"127.0.0.1:{port}", ca)
        text = _EXAMPLE.read_text()
        kubernetes.apply(*yaml.safe_load_all(text))
        stranger = text.replace(_ACCOUNT, "stranger").replace("[volumesnapshots]", "[others]")
        kubernetes.apply(*yaml.safe_load_all(stranger))
        running.parts.start(api.CONTROLLER, api.controller(kubernetes.kubeconfig))
        kubeconfig = made.kubeconfig("rbdcsi-controller", "rbdcsi")
        flags = [f"--kubeconfig={kubeconfig}", f"--csi-address={controller.socket}"]
        running.parts.start("csi-snapshotter", [build.build("csi-snapshotter"), *flags])
        own = [
            f"--tls-cert={certificate.certificate}",
            f"--tls-key={certificate.key}",
            f"--audience={chart.DRIVER}",
            f"--port={port}",
            f"--http-endpoint=127.0.0.1:{port + 1}",
        ]
        metadata = "csi-snapshot-metadata"
        running.parts.start(metadata, [build.build(metadata), *flags, *own])
        yield made


def test_a_backup_program_gets_the_blocks_of_a_snapshot_and_what_changed(
    service: Service, controller: Driver, admin: rados.Rados, pool: str
) -> None:
    made = volume.create(controller, "backed-up", size=64 * MIB)
    with admin.open_ioctx(pool) as ioctx, rbd.Image(ioctx, image_id=image_id(made)) as image:
        image.write(b"a" * 4096, 0)
        image.write(b"b" * 8192, 20 * MIB)
        taken = [snapshots.create(controller, "monday", made.id)]
        image.write(b"c" * 4096, 20 * MIB + 4096)
        image.write(b"d" * 512, 40 * MIB)
        taken.append(snapshots.create(controller, "tuesday", made.id))
    for name, each in zip(("monday", "tuesday"), taken, strict=True):
        _publish(service.kubernetes, name, each)

    assert service.blocks(_ACCOUNT, "--snapshot=monday") == [(0, 4096), (20 * MIB, 8192)]
    changed = service.blocks(_ACCOUNT, "--snapshot=tuesday", "--previous=monday")
    assert changed == [(20 * MIB + 4096, 4096), (40 * MIB, 512)]
    with pytest.raises(errors.Failed, match=r"forbidden|PermissionDenied"):
        service.blocks("stranger", "--snapshot=monday")
    with pytest.raises(errors.Failed, match=r"cannot create resource .serviceaccounts/token"):
        service.kubernetes.kubectl(
            "create",
            "token",
            "default",
            "-n",
            "default",
            f"--as=system:serviceaccount:default:{_ACCOUNT}",
        )

    for each in taken:
        snapshots.delete(controller, each.snapshot_id)
    volume.delete(controller, made)


def _publish(kubernetes: Kubernetes, name: str, taken: csi_pb2.Snapshot) -> None:
    """Make the driver's snapshot a VolumeSnapshot, as one that Kubernetes did not ask for."""
    reference = {"name": name, "namespace": "default"}
    kubernetes.apply(
        {
            "apiVersion": f"{_SNAPSHOTS}/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": {"name": name},
            "spec": {
                "driver": chart.DRIVER,
                "deletionPolicy": "Retain",
                "source": {"snapshotHandle": taken.snapshot_id},
                "volumeSnapshotRef": reference,
                "volumeSnapshotClassName": chart.CLASS,
            },
        },
        {
            "apiVersion": f"{_SNAPSHOTS}/v1",
            "kind": "VolumeSnapshot",
            "metadata": reference,
            "spec": {
                "source": {"volumeSnapshotContentName": name},
                "volumeSnapshotClassName": chart.CLASS,
            },
        },
    )
    ready = "jsonpath={.status.readyToUse}=true"
    kubernetes.wait_for("volumesnapshot", name, ready, "default")


def _install(kubernetes: Kubernetes, address: str, ca: str) -> None:
    """Make the chart's accounts, rights and class, and the object by which the service is found."""
    values = {"enabled": True, "tlsSecret": "metadata", "caCert": ca}
    sidecars = {"snapshotter": {"enabled": True}, "snapshotMetadata": values}
    flags = [
        "--set=existingSecret=rbdcsi",
        f"--set=volumeSnapshotClasses[0].name={chart.CLASS}",
        f"--set-json=sidecars={json.dumps(sidecars)}",
    ]
    kubernetes.kubectl("create", "namespace", "rbdcsi")
    for described in filter(None, yaml.safe_load_all(manifests.template(*flags))):
        if described["kind"] == _SERVICE:  # there is neither a Pod nor a Service here
            described["spec"]["address"] = address
        if described["kind"] in (*_RIGHTS, _SERVICE, "VolumeSnapshotClass"):
            kubernetes.apply(described)
