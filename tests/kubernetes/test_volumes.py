"""Volumes as Pods have them: every test reads back what another Pod wrote."""

import contextlib
from collections.abc import Iterator

import pytest

from e2e.kubernetes import chart, workload
from tests.kubernetes.conftest import Rbd

Namespace = workload.Namespace
WRITE = "head -c 4194304 /dev/urandom >/data/file; sync; sha256sum /data/file"
READ = "sha256sum /data/file"


def test_what_a_pod_wrote_another_reads_on_the_other_node(
    namespace: Namespace, nodes: list[str]
) -> None:
    namespace.claim("data")
    namespace.start("first", "data", node=nodes[0])
    written = namespace.run("first", WRITE)
    namespace.delete("pod", "first")
    namespace.start("second", "data", node=nodes[1])
    assert namespace.run("second", READ) == written


def test_a_deleted_claim_takes_its_image_along(namespace: Namespace, rbd: Rbd) -> None:
    namespace.claim("data")
    namespace.start("writer", "data")
    namespace.run("writer", WRITE)
    image = namespace.image("data")
    assert image in rbd("ls", chart.POOL).split()
    namespace.delete("pod", "writer")
    namespace.delete("pvc", "data")
    namespace.kubernetes.wait(lambda: image not in rbd("ls", chart.POOL).split(), "image gone")


@pytest.mark.long
@pytest.mark.parametrize("storage_class", ["rbd-xfs", "rbd-btrfs"])
def test_other_filesystems_move_as_well(
    namespace: Namespace, nodes: list[str], storage_class: str
) -> None:
    namespace.claim("data", storage_class=storage_class)
    namespace.start("first", "data", node=nodes[0])
    written = namespace.run("first", WRITE)
    kind = namespace.run("first", "grep ' /data ' /proc/mounts").split()[2]
    assert f"rbd-{kind}" == storage_class
    namespace.delete("pod", "first")
    namespace.start("second", "data", node=nodes[1])
    assert namespace.run("second", READ) == written


@pytest.mark.long
def test_each_pod_of_a_stateful_set_finds_its_own_volume_again(namespace: Namespace) -> None:
    namespace.apply(_stateful_set("three", 3))
    names = [f"three-{number}" for number in range(3)]
    for name in names:
        namespace.wait_for_pod(name)
        namespace.run(name, f"echo {name} >/data/name; sync")
    namespace.kubernetes.kubectl("scale", "-n", namespace.name, "sts/three", "--replicas=0")
    namespace.kubernetes.wait(
        lambda: not any(namespace.phase("pod", name) for name in names), "the Pods are gone"
    )
    namespace.kubernetes.kubectl("scale", "-n", namespace.name, "sts/three", "--replicas=3")
    for name in names:
        namespace.wait_for_pod(name)
        assert namespace.run(name, "cat /data/name").strip() == name


def test_a_raw_block_volume_has_its_size_and_keeps_its_bytes_also_from_a_reader(
    namespace: Namespace, nodes: list[str]
) -> None:
    namespace.claim("raw", block=True, size="64Mi")
    namespace.start("first", "raw", node=nodes[0], block=True)
    written = namespace.run(
        "first",
        f"head -c 1048576 /dev/urandom >/tmp/a; dd if=/tmp/a of={workload.DEVICE} bs=1M seek=63 "
        "conv=fsync 2>/dev/null; sha256sum </tmp/a",
    )
    read = f"dd if={workload.DEVICE} bs=1M skip=63 2>/dev/null | sha256sum"
    namespace.start("reader", "raw", node=nodes[0], block=True, readonly=True)
    assert namespace.run("reader", read) == written
    refused = namespace.run("reader", f"dd if=/dev/zero count=1 of={workload.DEVICE} 2>&1 || true")
    assert "Operation not permitted" in refused
    for pod in ("first", "reader"):
        namespace.delete("pod", pod)
    namespace.start("second", "raw", node=nodes[1], block=True)
    size = namespace.run("second", f"wc -c <{workload.DEVICE}")
    assert int(size) == 64 << 20
    assert namespace.run("second", read) == written


@pytest.mark.long
def test_a_read_only_many_volume_is_read_on_both_nodes_at_once(
    namespace: Namespace, nodes: list[str]
) -> None:
    namespace.claim("data")
    namespace.start("writer", "data", node=nodes[0])
    written = namespace.run("writer", WRITE)
    namespace.delete("pod", "writer")
    # Both volumes have one handle, so a reader that comes sooner gets the writer's attachment.
    namespace.kubernetes.wait(lambda: not _attachments(namespace, "data"), "it is detached")
    with _claimed_again(namespace, "data", "shared", "ReadOnlyMany"):
        readers = [f"reader-{node}" for node in nodes]
        for reader, node in zip(readers, nodes, strict=True):
            namespace.start(reader, "shared", node=node, readonly=True)
        for reader in readers:
            assert namespace.run(reader, READ) == written
            refused = namespace.run(reader, "touch /data/new 2>&1 || true")
            assert "Read-only file system" in refused


@pytest.mark.long
def test_a_read_write_once_pod_volume_is_for_one_pod(namespace: Namespace) -> None:
    namespace.claim("data", mode="ReadWriteOncePod")
    namespace.start("first", "data")
    namespace.create("second", "data")
    namespace.kubernetes.wait(
        lambda: any("ReadWriteOncePod" in said for said in namespace.events("Pod", "second")),
        "the second Pod is told why it waits",
    )
    assert namespace.phase("pod", "second") == "Pending"
    namespace.delete("pod", "first")
    namespace.wait_for_pod("second")


@pytest.mark.long
def test_a_claim_that_waits_is_bound_when_a_pod_comes(namespace: Namespace) -> None:
    namespace.claim("data", storage_class="rbd-wait")
    namespace.kubernetes.wait(
        lambda: bool(namespace.events("PersistentVolumeClaim", "data")), "the claim is seen"
    )
    assert namespace.phase("pvc", "data") == "Pending"
    namespace.start("first", "data")
    assert namespace.phase("pvc", "data") == "Bound"


def test_a_second_node_is_refused_and_the_event_names_the_holder(
    namespace: Namespace, nodes: list[str]
) -> None:
    namespace.claim("data")
    namespace.start("first", "data", node=nodes[0])
    namespace.create("second", "data", node=nodes[1])

    def told() -> bool:
        return any("Multi-Attach" in said for said in namespace.events("Pod", "second"))

    namespace.kubernetes.wait(told, "the second Pod is told why it waits")
    assert namespace.phase("pod", "second") == "Pending"


def test_a_wrong_storage_class_says_what_is_wrong_with_it(namespace: Namespace) -> None:
    wrong = f"wrong-{namespace.name}"
    namespace.kubernetes.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": wrong},
            "provisioner": chart.DRIVER,
            "parameters": {"pooll": "kubernetes"},
        }
    )
    try:
        namespace.claim("data", storage_class=wrong)

        def told() -> bool:
            said = " ".join(namespace.events("PersistentVolumeClaim", "data"))
            return "pooll" in said and "pool" in said.replace("pooll", "")

        namespace.kubernetes.wait(told, "the claim's event names the parameter and the right one")
    finally:
        namespace.kubernetes.delete("storageclass", wrong)


def _stateful_set(name: str, replicas: int) -> dict[str, object]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [workload.container(["sleep", "infinity"], "data")],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": workload.claim_spec()}],
        },
    }


def _attachments(namespace: Namespace, name: str) -> list[str]:
    """Return the names of the nodes that a claim's volume is attached to."""
    volume = namespace.volume(name)["metadata"]["name"]
    return [
        each["spec"]["nodeName"]
        for each in namespace.kubernetes.list("volumeattachments")
        if each["spec"]["source"].get("persistentVolumeName") == volume
    ]


@contextlib.contextmanager
def _claimed_again(namespace: Namespace, old: str, new: str, mode: str) -> Iterator[None]:
    """Make a second volume and claim of the same image, with another access mode."""
    volume = namespace.volume(old)
    spec = {key: volume["spec"][key] for key in ("capacity", "csi", "storageClassName")}
    name = f"{namespace.name}-{new}"
    namespace.kubernetes.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **spec,
                "accessModes": [mode],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace.name, "name": new},
            },
        }
    )
    namespace.claim(new, mode=mode)
    try:
        namespace.wait_for_claim(new)
        yield
    finally:
        namespace.kubernetes.kubectl("delete", "pods", "--all", "-n", namespace.name, timeout=120)
        namespace.delete("pvc", new)
        namespace.kubernetes.delete("pv", name)
