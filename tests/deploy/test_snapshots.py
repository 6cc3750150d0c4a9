"""Snapshots in the chart: their sidecar, their classes, and the service of changed blocks."""

import base64
import json

import pytest

import rbdcsi
from e2e import errors
from tests.deploy.renderings import MINIMAL, rendered, sidecars

pytestmark = pytest.mark.timeout(900)  # builds helm when the cache is cold

SNAPSHOT_API = ("--api-versions", "snapshot.storage.k8s.io/v1")
SNAPSHOT_CLASS = (
    "--set=volumeSnapshotClasses[0].name=rbd",
    "--set=volumeGroupSnapshotClasses[0].name=rbd",
)


@pytest.mark.parametrize(
    ("flags", "on"),
    [
        ((), False),
        (SNAPSHOT_API, True),
        ((*SNAPSHOT_API, "--set", "sidecars.snapshotter.enabled=false"), False),
        (("--set", "sidecars.snapshotter.enabled=true"), True),
    ],
)
def test_snapshots_are_served_where_their_api_is_or_by_force(
    flags: tuple[str, ...], on: bool
) -> None:
    assert ("snapshotter" in sidecars(*flags)) is on
    objects = rendered(*MINIMAL, *SNAPSHOT_CLASS, *flags)
    assert ("VolumeSnapshotClass" in objects) is on
    assert ("VolumeGroupSnapshotClass" in objects) is on
    (role,) = objects["ClusterRole"]
    groups = {group for rule in role["rules"] for group in rule["apiGroups"]}
    assert ("snapshot.storage.k8s.io" in groups) is on
    assert ("groupsnapshot.storage.k8s.io" in groups) is on


def test_changed_blocks_are_served_if_there_is_a_certificate() -> None:
    service = ("--set", "sidecars.snapshotMetadata.enabled=true")
    with pytest.raises(errors.Failed, match="tlsSecret"):
        rendered(*MINIMAL, *service)
    certificate = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"
    values = {"enabled": True, "tlsSecret": "mine", "caCert": certificate}
    objects = rendered(*MINIMAL, "--set-json", f"sidecars.snapshotMetadata={json.dumps(values)}")
    (found,) = objects["SnapshotMetadataService"]
    assert found["metadata"]["name"] == rbdcsi.DRIVER_NAME
    assert base64.b64decode(found["spec"]["caCert"]).decode() == certificate
    host, _, port = found["spec"]["address"].partition(":")
    (behind,) = (s for s in objects["Service"] if s["metadata"]["name"] == host.split(".")[0])
    assert [each["port"] for each in behind["spec"]["ports"]] == [int(port)]
    pod = objects["StatefulSet"][0]["spec"]["template"]["spec"]
    (sidecar,) = (each for each in pod["containers"] if each["name"] == "snapshot-metadata")
    assert sidecar["ports"][0]["name"] == behind["spec"]["ports"][0]["targetPort"]
    assert f"--audience={found['spec']['audience']}" in sidecar["args"]
    assert "SnapshotMetadataService" not in rendered(*MINIMAL)
