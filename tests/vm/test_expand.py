"""Growth on a real kernel, with krbd and with nbd, while a program writes and verifies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import volume
from e2e.vm.node import Node
from tests.vm.lab import MAPPERS, MIB, Lab

SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 160 * MIB}
EACH = pytest.mark.parametrize(
    ("mapper", "fs_type"),
    [
        pytest.param("krbd", "ext4", marks=pytest.mark.smoke),
        ("krbd", "xfs"),
        ("krbd", "btrfs"),
        pytest.param("nbd", "ext4", marks=pytest.mark.smoke),
        ("nbd", "xfs"),
    ],
)

# It writes numbered files with a checksum beside each, and reads an earlier one after each write.
_WRITER = """
cd {target}; n=0
while test ! -e {stop}; do
  i=$((n % 50)); n=$((n + 1))
  head -c 100000 /dev/urandom >f$i && sync f$i && sha256sum f$i >s$i && sync s$i || break
  sha256sum -c --status s$(((n * 7) % (n < 50 ? n : 50))) || break
  echo $n >{count}
done
if test -e {stop}; then echo fine; else echo failed; fi >{result}
"""


@EACH
def test_a_filesystem_grows_while_it_is_written_to(lab: Lab, mapper: str, fs_type: str) -> None:
    node, size = lab.nodes[0], SIZES[fs_type]
    with lab.volume(mapper, capability=volume.mounted(fs_type), size=size) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with _writer(node, target):
            # 129 MiB leave ext4 a last group that has no room for data
            for larger in (2 * size, 2 * size + MIB, 4 * size + 32 * MIB):
                answer = volume.expand(lab.controller, made, larger)
                assert (answer.capacity_bytes, answer.node_expansion_required) == (larger, True)
                for _ in range(2):
                    assert volume.expand_on_node(node, made, larger, path=target) == larger
        assert _filesystem_size(node, target) > 0.7 * larger
        node.run(f"fallocate -l {2 * size} {target}/large")
        node.run(f"cd {target}; for s in s*; do sha256sum -c --status $s || exit 1; done")

        # It is grown as far as it can be, so the next stage does not try.
        steps = node.words().count("stage.grow")
        lab.move(made, node, node)
        volume.stage(node, made)
        assert node.words().count("stage.grow") == steps
        assert _filesystem_size(node, made.staging(node)) > 0.7 * larger


@EACH
def test_a_filesystem_smaller_than_its_device_grows_at_stage(
    lab: Lab, mapper: str, fs_type: str
) -> None:
    node, size = lab.nodes[0], SIZES[fs_type]
    with lab.volume(mapper, capability=volume.mounted(fs_type), size=size) as made:
        volume.stage(node, made)
        node.run(f"echo kept >{made.staging(node)}/file")
        volume.unstage(node, made)
        with lab.image(made) as image:
            image.resize(3 * size)
        volume.stage(node, made)
        assert _filesystem_size(node, made.staging(node)) > 0.7 * 3 * size
        assert node.run(f"cat {made.staging(node)}/file") == "kept"


@pytest.mark.parametrize("mapper", MAPPERS)
def test_a_raw_device_grows_while_it_is_written_to(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    with lab.volume(mapper, capability=volume.raw()) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with _raw_writer(node, target):
            for larger in (96 * MIB, 128 * MIB):
                volume.expand(lab.controller, made, larger)
                assert volume.expand_on_node(node, made, larger, path=target) == larger
                assert node.run(f"blockdev --getsize64 {target}") == str(larger)
        node.run(f"echo end | dd of={target} bs=4k seek=32767 conv=notrunc,sync oflag=direct")
        assert lab.content(made, 128 * MIB - 4096, 3) == b"end"


@contextlib.contextmanager
def _raw_writer(node: Node, target: Path) -> Iterator[None]:
    stop, result = Path("/run/stop-raw"), Path("/run/result-raw")
    node.run(f"rm -f {stop} {result}")
    loop = (
        f"while test ! -e {stop}; do dd if=/dev/urandom of={target} bs=4k count=64 oflag=direct "
        f"conv=notrunc status=none || {{ echo failed >{result}; exit 1; }}; done; "
        f"echo fine >{result}"
    )
    node.machine.spawn("/dev/null", "sh", "-c", loop)
    try:
        yield
    finally:
        node.run(f"touch {stop}; while test ! -s {result}; do sleep 0.1; done", seconds=60)
    assert node.run(f"cat {result}") == "fine"


@contextlib.contextmanager
def _writer(node: Node, target: Path) -> Iterator[None]:
    stop, result, count = Path("/run/stop"), Path("/run/result"), Path("/run/count")
    log = Path("/run/writer.log")
    node.run(f"rm -f {stop} {result} {count} {log}")
    script = _WRITER.format(target=target, stop=stop, result=result, count=count)
    node.machine.spawn(log, "sh", "-c", script)
    try:
        node.run(f"while test ! -e {count}; do sleep 0.1; done")
        yield
    finally:
        node.run(f"touch {stop}; while test ! -s {result}; do sleep 0.1; done", seconds=60)
    assert node.run(f"cat {result} {log}") == "fine"


def _filesystem_size(node: Node, path: Path) -> int:
    return int(node.run(f"df -B1 --output=size {path} | tail -1"))
