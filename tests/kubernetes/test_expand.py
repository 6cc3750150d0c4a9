"""Claims that are made larger, as their users do it."""

import pytest

from e2e.kubernetes import chart, workload
from tests.kubernetes.conftest import Rbd

Namespace = workload.Namespace

# Numbered files with a checksum beside each; an earlier one is read after each write.
_WRITER = """
n=0 result=fine
cd /data
while test ! -e /tmp/stop; do
  i=$((n % 50)); n=$((n + 1))
  head -c 100000 /dev/urandom >f$i && sync f$i && sha256sum f$i >s$i || result="write $n"
  sha256sum -c -s s$((n * 7 % (n < 50 ? n : 50))) || result="read after $n"
  echo $n >/tmp/count
done
echo "$result" >/tmp/result
sleep 100000
"""
_SIZE = "df -m /data | tail -1 | awk '{print $2}'"


@pytest.mark.parametrize(
    "storage_class",
    [pytest.param(chart.CLASS, marks=pytest.mark.smoke), "rbd-xfs", "rbd-btrfs", "rbd-nbd"],
)
def test_a_claim_grows_while_its_pod_writes_and_verifies(
    namespace: Namespace, storage_class: str
) -> None:
    namespace.claim("data", storage_class=storage_class)
    namespace.start("writer", "data", command=["sh", "-c", _WRITER])
    namespace.run("writer", "while test ! -e /tmp/count; do sleep 0.2; done")
    for size, mebibytes in (("2Gi", 2048), ("3Gi", 3072)):
        namespace.resize("data", size)
        namespace.wait_for_size("data", size)
        assert int(namespace.run("writer", _SIZE)) > 0.9 * mebibytes
    said = namespace.run(
        "writer",
        "touch /tmp/stop; while test ! -e /tmp/result; do sleep 0.2; done; cat /tmp/result",
    )
    assert said.strip() == "fine"
    namespace.run("writer", "cd /data; for s in s*; do sha256sum -c -s $s || exit 1; done")


def test_a_claim_that_no_pod_uses_grows_when_the_next_one_comes(
    namespace: Namespace, nodes: list[str], rbd: Rbd
) -> None:
    namespace.claim("data")
    namespace.start("first", "data", node=nodes[0])
    namespace.run("first", "echo kept >/data/file; sync")
    namespace.delete("pod", "first")
    namespace.resize("data", "2Gi")
    image = f"{chart.POOL}/{namespace.image('data')}"
    namespace.kubernetes.wait(lambda: "size 2 GiB" in rbd("info", image), "the image has grown")
    namespace.start("second", "data", node=nodes[1])
    namespace.wait_for_size("data", "2Gi")
    assert int(namespace.run("second", _SIZE)) > 1900
    assert namespace.run("second", "cat /data/file").strip() == "kept"


def test_a_raw_block_volume_grows_under_its_pod(namespace: Namespace) -> None:
    namespace.claim("raw", block=True, size="64Mi")
    namespace.start("user", "raw", block=True)
    namespace.resize("raw", "128Mi")
    namespace.wait_for_size("raw", "128Mi")
    namespace.run(
        "user", f"echo end | dd of={workload.DEVICE} bs=1M seek=127 conv=notrunc,fsync 2>/dev/null"
    )
    found = namespace.run("user", f"dd if={workload.DEVICE} bs=1M skip=127 2>/dev/null | head -c 3")
    assert found == "end"
