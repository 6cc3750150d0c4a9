"""Snapshots in the chart: their sidecar, their classes, and the service of changed blocks."""

import base64
import contextlib
import json
import shutil
import ssl
from pathlib import Path

import pytest
import yaml

import rbdcsi
from e2e import errors
from e2e.release import manifests, schemas
from rbdcsi.server import grpc_server
from tests.deploy.renderings import EVERYTHING, MINIMAL, Object, by_kind, rendered, sidecars

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


def test_snapshot_classes_have_labels_and_annotations_beside_the_charts_own() -> None:
    objects = rendered(*EVERYTHING)
    (snapshots,), (groups,) = objects["VolumeSnapshotClass"], objects["VolumeGroupSnapshotClass"]
    labels = snapshots["metadata"]["labels"]
    assert labels["velero.io/csi-volumesnapshot-class"] == "true"
    assert labels["app.kubernetes.io/name"] == "rbdcsi"
    assert snapshots["metadata"]["annotations"] == {
        "example.com/note": "fast",
        "snapshot.storage.kubernetes.io/is-default-class": "true",
    }
    assert groups["metadata"]["labels"]["example.com/team"] == "storage"
    assert groups["metadata"]["annotations"] == {
        "groupsnapshot.storage.kubernetes.io/is-default-class": "true"
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("labels.grafana_dashboard=1", "/volumeSnapshotClasses/0/labels/grafana_dashboard"),
        ("labels.a=-", "/volumeSnapshotClasses/0/labels/a"),
    ],
)
def test_wrong_labels_of_a_snapshot_class_are_refused(value: str, words: str) -> None:
    with pytest.raises(errors.Failed, match=words):
        rendered(
            *MINIMAL,
            "--set=volumeSnapshotClasses[0].name=rbd",
            f"--set-string=volumeSnapshotClasses[0].{value}",
        )


OFF = ("--set", "sidecars.snapshotter.enabled=false")


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        (SNAPSHOT_CLASS, "Kubernetes does not have the CRDs of snapshots"),
        (SNAPSHOT_CLASS[1:], "Kubernetes does not have the CRDs of snapshots"),
        ((*SNAPSHOT_CLASS, *SNAPSHOT_API, *OFF), "`sidecars.snapshotter.enabled` is false"),
        ((*SNAPSHOT_CLASS, *SNAPSHOT_API), ""),
        ((), ""),
    ],
)
def test_classes_that_are_not_made_are_named_after_the_installation(
    flags: tuple[str, ...], note: str, tmp_path: Path
) -> None:
    text = notes(tmp_path, *flags)
    assert ("none was made" in text) is bool(note)
    assert note in text


def notes(directory: Path, *flags: str) -> str:
    """Return the text that helm shows after an installation; `helm template` leaves it out."""
    chart = shutil.copytree(manifests.CHART, directory / "chart")
    template = chart / "templates/NOTES.txt"
    body = f'{{{{ define "notes" }}}}{template.read_text()}{{{{ end }}}}'
    (chart / "templates/notes.yaml").write_text(f'{body}notes: {{{{ include "notes" . | quote }}}}')
    version = ("--kube-version", schemas.KUBERNETES)
    only = ("--show-only", "templates/notes.yaml")
    text = manifests.helm("template", "rbdcsi", str(chart), *version, *only, *MINIMAL, *flags)
    return str(yaml.safe_load(text)["notes"])


@pytest.mark.parametrize("flags", [(), OFF])
def test_changed_blocks_without_snapshots_are_refused(flags: tuple[str, ...]) -> None:
    enabled = ("--set", "sidecars.snapshotMetadata.enabled=true")
    with pytest.raises(errors.Failed, match="enabled, but the snapshotter is off"):
        rendered(*MINIMAL, *enabled, *flags)
    assert "snapshotter" in sidecars(*enabled, *SNAPSHOT_API)


CHANGED_BLOCKS = (
    *("--set", "sidecars.snapshotter.enabled=true"),
    *("--set", "sidecars.snapshotMetadata.enabled=true"),
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"


def certified(**values: str) -> tuple[str, ...]:
    """Return the flags for a certificate of one's own."""
    return (*CHANGED_BLOCKS, "--set-json", f"sidecars.snapshotMetadata={json.dumps(values)}")


def test_changed_blocks_are_served_where_their_object_says() -> None:
    objects = rendered(*MINIMAL, *certified(tlsSecret="mine", caCert=CERTIFICATE))
    (service,) = objects["SnapshotMetadataService"]
    assert service["metadata"]["name"] == rbdcsi.DRIVER_NAME
    assert base64.b64decode(service["spec"]["caCert"]).decode() == CERTIFICATE
    host, _, port = service["spec"]["address"].partition(":")
    (behind,) = (s for s in objects["Service"] if s["metadata"]["name"] == host.split(".")[0])
    assert [each["port"] for each in behind["spec"]["ports"]] == [int(port)]
    sidecar = metadata_sidecar(objects)
    assert sidecar["ports"][0]["name"] == behind["spec"]["ports"][0]["targetPort"]
    assert f"--audience={service['spec']['audience']}" in sidecar["args"]
    assert f"--max-streaming-duration-min={grpc_server.LONGEST_STREAM / 60:g}" in sidecar["args"]
    assert certificate_secret(objects) == "mine"
    assert "Secret" not in objects
    assert "SnapshotMetadataService" not in rendered(*MINIMAL)


def metadata_sidecar(objects: dict[str, list[Object]]) -> Object:
    pod = objects["StatefulSet"][0]["spec"]["template"]["spec"]
    (sidecar,) = (each for each in pod["containers"] if each["name"] == "snapshot-metadata")
    return dict(sidecar)


def certificate_secret(objects: dict[str, list[Object]]) -> str:
    """Return the name of the Secret that is mounted where the sidecar looks for its certificate."""
    pod = objects["StatefulSet"][0]["spec"]["template"]["spec"]
    (mount,) = (
        each
        for each in metadata_sidecar(objects)["volumeMounts"]
        if f"--tls-cert={each['mountPath']}/tls.crt" in metadata_sidecar(objects)["args"]
    )
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    return str(volume["secret"]["secretName"])


@pytest.mark.parametrize(("release", "namespace"), [("rbdcsi", "rbdcsi"), ("a" * 53, "n" * 63)])
def test_a_client_trusts_the_certificate_of_the_chart_by_its_object(
    release: str, namespace: str, tmp_path: Path
) -> None:
    text = manifests.template(*MINIMAL, *CHANGED_BLOCKS, release=release, namespace=namespace)
    objects = by_kind(text)
    (secret,), (service,) = objects["Secret"], objects["SnapshotMetadataService"]
    assert certificate_secret(objects) == secret["metadata"]["name"]
    assert (secret["type"], secret["metadata"]["namespace"]) == ("kubernetes.io/tls", namespace)
    for name, content in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    host = service["spec"]["address"].partition(":")[0]
    trusted = base64.b64decode(service["spec"]["caCert"]).decode()
    shake_hands(server, ssl.create_default_context(cadata=trusted), host)
    shake_hands(server, ssl.create_default_context(cadata=trusted), f"{host}.svc")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, ssl.create_default_context(cadata=trusted), "another.rbdcsi")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(server, ssl.create_default_context(), host)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Let a client of that host check the server's certificate, without a network."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking, answering):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert asking.getpeercert()


@pytest.mark.parametrize("values", [{"tlsSecret": "mine"}, {"caCert": CERTIFICATE}], ids=str)
def test_half_of_a_certificate_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(errors.Failed, match="give tlsSecret together with caCert, or neither"):
        rendered(*MINIMAL, *certified(**values))


def test_a_ca_in_another_form_than_pem_is_refused() -> None:
    with pytest.raises(errors.Failed, match="/sidecars/snapshotMetadata/caCert"):
        rendered(*MINIMAL, *certified(tlsSecret="mine", caCert="MAo="))


def test_port_of_the_sidecar_is_refused_for_metrics() -> None:
    port = ("--set", "controller.metricsPort=50051")
    manifests.template(*MINIMAL, *port)
    with pytest.raises(errors.Failed, match=r"controller\.metricsPort is 50051, which sidecars"):
        manifests.template(*MINIMAL, *CHANGED_BLOCKS, *port)
