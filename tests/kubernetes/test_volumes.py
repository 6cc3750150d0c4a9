"""Volumes as Pods have them: every test reads back what another Pod wrote."""

import pytest

from e2e.kubernetes import chart, workload
from tests.kubernetes.conftest import Rbd

Namespace = workload.Namespace
WRITE = "head -c 4194304 /dev/urandom >/data/file; sync; sha256sum /data/file"
READ = "sha256sum /data/file"


@pytest.mark.smoke
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


def test_each_pod_of_a_stateful_set_finds_its_own_volume_again(namespace: Namespace) -> None:
    container = workload.container(["sleep", "infinity"], "data")
    claim = workload.claim_spec()
    namespace.apply(workload.stateful_set("three", container, claim, replicas=3))
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
