"""deploy/examples: this API server takes each, and what has what it needs runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kubernetes import chart, workload
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests
from tests.kubernetes.conftest import Rbd

EXAMPLES = sorted((manifests.ROOT / "deploy/examples").glob("*.yaml"))
CLASSES = manifests.ROOT / "deploy/examples/storageclasses.yaml"
# snapshot-metadata: tests/integration/test_metadata_sidecar.py asks with its rights.
_NOT_ALONE = ("static", "snapshot", "group-snapshot", "clone", "snapshot-metadata")
OF_THEIR_OWN = {CLASSES, *map(CLASSES.with_stem, _NOT_ALONE)}


@pytest.mark.parametrize(
    "example", [each for each in EXAMPLES if each not in OF_THEIR_OWN], ids=lambda path: path.stem
)
def test_an_example_runs_as_it_is(namespace: workload.Namespace, example: Path) -> None:
    kubernetes, here = namespace.kubernetes, namespace.name
    kubernetes.kubectl("apply", "-n", here, "-f", str(example))

    def phases(kind: str) -> list[str]:
        return [each["status"].get("phase", "") for each in kubernetes.list(kind, here)]

    wanted = 3 if example.stem == "statefulset" else 1
    for kind, phase in (("pods", "Running"), ("pvc", "Bound")):
        kubernetes.wait(
            lambda kind=kind, phase=phase: phases(kind) == [phase] * wanted,  # type: ignore[misc]
            f"{wanted} {kind} of {example.name} are {phase}",
        )


def test_the_example_of_a_class_provisions(namespace: workload.Namespace) -> None:
    with _made(namespace, _class("rbd")) as name:
        namespace.claim("data", storage_class=name)
        namespace.start("writer", "data")
        assert " ext4 " in namespace.run("writer", "grep ' /data ' /proc/mounts")


@pytest.mark.parametrize(("example", "copy"), [("snapshot", "restored"), ("clone", "copy")])
def test_the_example_of_a_copy_has_what_its_source_had(
    namespace: workload.Namespace, example: str, copy: str
) -> None:
    namespace.claim("notes")
    namespace.start("writer", "notes")
    written = namespace.run(
        "writer", "head -c 1000000 /dev/urandom >/data/f; sync; sha256sum /data/f"
    )
    objects = yaml.safe_load_all(CLASSES.with_stem(example).read_text())
    # The chart of these tests has made the class.
    namespace.apply(*(each for each in objects if each["kind"] != "VolumeSnapshotClass"))
    namespace.start("reader", f"notes-{copy}")
    assert namespace.run("reader", "sha256sum /data/f") == written
    assert int(namespace.run("reader", "df -m /data | tail -1 | awk '{print $2}'")) > 1900
    namespace.kubernetes.kubectl("delete", "volumesnapshots", "--all", "-n", namespace.name)


def test_the_example_of_a_group_takes_a_snapshot_of_each_member(
    namespace: workload.Namespace,
) -> None:
    kubernetes = namespace.kubernetes
    group = next(
        each
        for each in yaml.safe_load_all(CLASSES.with_stem("group-snapshot").read_text())
        if each["kind"] == "VolumeGroupSnapshot"  # the chart of these tests has made the class
    )
    labels = group["spec"]["source"]["selector"]["matchLabels"]
    for name in ("pages", "index"):
        claim = workload.claim(name)
        namespace.apply({**claim, "metadata": {**claim["metadata"], "labels": labels}})
        namespace.wait_for_claim(name)
    namespace.apply(group)
    name, ready = group["metadata"]["name"], "jsonpath={.status.readyToUse}=true"
    kubernetes.wait_for("volumegroupsnapshot", name, ready, namespace.name)
    assert len(list(kubernetes.list("volumesnapshots", namespace.name))) == 2
    namespace.delete("volumegroupsnapshot", name)


@pytest.fixture
def tenant(kubernetes: Kubernetes, rbd: Rbd) -> Iterator[str]:
    """Give the RADOS namespace of the examples; asked for before `namespace`, which empties it."""
    place = f"{chart.POOL}/{_class('rbd-tenant-a')['parameters']['radosNamespace']}"
    rbd("namespace", "create", place)
    yield place
    kubernetes.wait(lambda: not rbd("ls", place) + rbd("trash", "ls", place), f"{place} is empty")
    rbd("namespace", "remove", place)


def test_the_example_of_a_tenant_provisions_in_its_namespace(
    tenant: str, namespace: workload.Namespace, rbd: Rbd
) -> None:
    with _made(namespace, _class("rbd-tenant-a")) as name:
        namespace.claim("data", storage_class=name)
        namespace.start("writer", "data")
        assert namespace.image("data") in rbd("ls", tenant).split()


def test_the_server_takes_the_class_whose_pool_is_not_there(kubernetes: Kubernetes) -> None:
    text = yaml.safe_dump(_class("rbd-erasure-coded"))
    said = kubernetes.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    assert "created (server dry run)" in said


def _class(name: str) -> dict[str, Any]:
    described = yaml.safe_load_all(CLASSES.read_text())
    (found,) = (each for each in described if each["metadata"]["name"] == name)
    return dict(found)


@contextlib.contextmanager
def _made(namespace: workload.Namespace, described: dict[str, Any]) -> Iterator[str]:
    """Make the class, by a name of its own and without keeping volumes, and give that name."""
    name = f"{namespace.name}-{described['metadata']['name']}"
    changed = {"metadata": {"name": name}, "reclaimPolicy": "Delete"}
    namespace.kubernetes.apply({**described, **changed})
    try:
        yield name
    finally:
        namespace.kubernetes.delete("storageclass", name)
