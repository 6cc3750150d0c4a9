"""Group snapshots of volumes that a real kernel writes to: of one moment, and no write fails."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import rbd

from e2e import groups, volume
from e2e.vm.node import Node
from rbdcsi.api import csi_pb2
from rbdcsi.model import ids
from tests.vm import lab as labs
from tests.vm.lab import MIB, Lab
from tests.vm.test_life import EACH_MAPPER

VOLUMES = 3
BLOCK = 4096
TRIES = 20

# Writes numbered blocks to the devices in turn, the next one when the last is on Ceph.
WRITER = """
import mmap, os, sys
devices = [os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC) for path in sys.argv[2:]]
block = mmap.mmap(-1, 4096)
for number in range(1, 100_000):
    block[:8] = number.to_bytes(8, "little")
    os.pwrite(devices[number % len(devices)], block, (number - 1) // len(devices) * 4096)
    if number % 100 == 0 and os.path.exists(sys.argv[1]):
        print("ended at", number)
        break
"""


@EACH_MAPPER
def test_group_snapshots_of_written_volumes_are_of_one_moment(lab: Lab, mapper: str) -> None:
    node = lab.nodes[0]
    node.run("dmesg --clear")  # other tests have cut this machine off
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(lab.volume(mapper, size=1024 * MIB, capability=volume.raw()))
            for _ in range(VOLUMES)
        ]
        targets = []
        for each in made:
            volume.stage(node, each)
            targets.append(str(volume.publish(node, each)))
        with _writer(node, targets):
            lengths = []
            for attempt in range(TRIES):
                group = groups.create(lab.controller, f"g{attempt}", [each.id for each in made])
                numbers = sorted(
                    itertools.chain.from_iterable(_numbers(lab, each) for each in group.snapshots)
                )
                assert numbers == list(range(1, len(numbers) + 1))
                lengths.append(len(numbers))
                groups.delete(lab.controller, group.group_snapshot_id)
            assert lengths == sorted(lengths)
            assert lengths[-1] > lengths[0]
        assert "error" not in node.run("dmesg | grep -i rbd || true").lower()
    assert labs.held_at(node) == []


@contextlib.contextmanager
def _writer(node: Node, targets: Sequence[str]) -> Iterator[None]:
    node.run(f"cat >/run/group.py <<'END'\n{WRITER}\nEND")
    program = f"python3 /run/group.py /run/stop {' '.join(targets)}; echo ended >/run/group.end"
    node.run(f"rm -f /run/stop /run/group.end; setsid sh -c '{program}' >/run/group.log 2>&1 &")
    try:
        yield
    finally:
        node.run("touch /run/stop; while test ! -s /run/group.end; do sleep 0.1; done", seconds=60)
    assert "ended at" in node.run("cat /run/group.log")


def _numbers(lab: Lab, member: csi_pb2.Snapshot) -> list[int]:
    """Return the numbers in a snapshot."""
    handle = ids.parse_snapshot(member.snapshot_id)
    with rbd.Image(lab.ioctx, image_id=handle.volume.image_id, read_only=True) as image:
        image.set_snap_by_id(handle.snap_id)
        found = []
        for offset in itertools.count(0, MIB):
            content = image.read(offset, MIB)
            numbers = [
                int.from_bytes(content[at : at + 8], "little") for at in range(0, MIB, BLOCK)
            ]
            found += [number for number in numbers if number]
            if 0 in numbers:
                return found
    raise AssertionError("the volume is full")
