"""Snapshots and copies of claims, as their users make them: each is read back."""

from collections.abc import Iterator

import pytest

from e2e.kubernetes import chart, snapshots, workload
from tests.kubernetes.conftest import Rbd

Namespace = workload.Namespace
WRITE = "head -c 4194304 /dev/urandom >/data/file; sync; sha256sum /data/file"
READ = "sha256sum /data/file"


@pytest.fixture(autouse=True)
def without_snapshots(namespace: Namespace) -> Iterator[None]:
    """Delete the namespace's snapshots before its claims are."""
    yield
    namespace.kubernetes.kubectl("delete", "volumesnapshots", "--all", "-n", namespace.name)


@pytest.mark.smoke
def test_a_snapshot_is_restored_with_what_it_held(namespace: Namespace, nodes: list[str]) -> None:
    namespace.claim("data")
    namespace.start("writer", "data", node=nodes[0])
    written = namespace.run("writer", WRITE)
    _take(namespace, "before", "data")
    assert namespace.run("writer", WRITE) != written
    namespace.claim("restored", source=snapshots.source("before"), size="2Gi")
    # On the writer's node: two filesystems of one origin are mounted side by side.
    namespace.start("reader", "restored", node=nodes[0])
    assert namespace.run("reader", READ) == written
    assert int(namespace.run("reader", "df -m /data | tail -1 | awk '{print $2}'")) > 1900


def test_a_snapshot_outlives_its_claim(namespace: Namespace, rbd: Rbd) -> None:
    namespace.claim("data")
    namespace.start("writer", "data")
    written = namespace.run("writer", WRITE)
    _take(namespace, "kept", "data")
    namespace.delete("pod", "writer")
    namespace.delete("pvc", "data")
    namespace.claim("restored", source=snapshots.source("kept"))
    namespace.start("reader", "restored")
    assert namespace.run("reader", READ) == written
    namespace.delete("volumesnapshot", "kept")
    namespace.delete("pod", "reader")
    namespace.start("again", "restored")
    assert namespace.run("again", READ) == written
    namespace.delete("pod", "again")
    namespace.delete("pvc", "restored")  # the last one that needs the deleted image
    namespace.kubernetes.wait(
        lambda: not any("deleted" in name for name in rbd("ls", chart.POOL).split()),
        "the deleted image is gone",
    )


@pytest.mark.parametrize("storage_class", ["rbd-xfs", "rbd-btrfs"])
def test_a_claim_is_cloned(namespace: Namespace, nodes: list[str], storage_class: str) -> None:
    namespace.claim("data", storage_class=storage_class)
    namespace.start("writer", "data", node=nodes[0])
    written = namespace.run("writer", WRITE)
    source = {"kind": "PersistentVolumeClaim", "name": "data"}
    namespace.claim("copy", source=source, size="2Gi", storage_class=storage_class)
    namespace.start("reader", "copy", node=nodes[0])
    assert namespace.run("reader", READ) == written
    assert int(namespace.run("reader", "df -m /data | tail -1 | awk '{print $2}'")) > 1800


def test_a_raw_block_snapshot_is_restored(namespace: Namespace) -> None:
    namespace.claim("raw", block=True, size="64Mi")
    namespace.start("writer", "raw", block=True)
    namespace.run(
        "writer", f"echo old | dd of={workload.DEVICE} bs=1M seek=9 conv=notrunc,fsync 2>/dev/null"
    )
    _take(namespace, "before", "raw")
    namespace.run(
        "writer", f"echo new | dd of={workload.DEVICE} bs=1M seek=9 conv=notrunc,fsync 2>/dev/null"
    )
    namespace.claim("restored", source=snapshots.source("before"), block=True, size="64Mi")
    namespace.start("reader", "restored", block=True)
    read = f"dd if={workload.DEVICE} bs=1M skip=9 2>/dev/null | head -c 3"
    assert namespace.run("reader", read) == "old"


def _take(namespace: Namespace, name: str, claim: str) -> None:
    namespace.apply(snapshots.snapshot(name, claim))
    ready = "jsonpath={.status.readyToUse}=true"
    namespace.kubernetes.wait_for("volumesnapshot", name, ready, namespace.name)
