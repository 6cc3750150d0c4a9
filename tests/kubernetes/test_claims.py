"""Who gets the volume of a claim, when, and what the others are told."""

import contextlib
from collections.abc import Iterator

from e2e.kubernetes import chart, workload

Namespace = workload.Namespace
WRITE = "head -c 4194304 /dev/urandom >/data/file; sync; sha256sum /data/file"
READ = "sha256sum /data/file"


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
