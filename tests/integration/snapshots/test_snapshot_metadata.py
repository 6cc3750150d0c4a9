"""The SnapshotMetadata service through the driver's socket."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rbd

from e2e import driver, volume
from e2e.clusters import Cluster, controller_caps
from e2e.clusters.commands import wait_until
from e2e.driver import Driver
from e2e.volume import MIB
from rbdcsi.api import csi_pb2
from rbdcsi.model import ids
from rbdcsi.model.extents import Extent
from tests.integration.controller.view import View
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 1024 * MIB
OBJECT = 4 * MIB
PAGE = 4096


@dataclass
class Source:
    """A volume and its image."""

    id: str
    image: rbd.Image

    def snapshot(self, name: str) -> str:
        """Take a snapshot and return its id."""
        self.image.create_snap(name)
        handle = ids.parse(self.id)
        (snap_id,) = (each["id"] for each in self.image.list_snaps() if each["name"] == name)
        return str(ids.SnapshotHandle(handle, snap_id))

    def filled(self) -> str:
        """Write into each object, and return the id of a snapshot.

        librbd reports a new object from its begin to its end, and a changed one exactly.
        """
        self.write(range(OBJECT - PAGE, SIZE, OBJECT))
        return self.snapshot("base")

    def write(self, offsets: Sequence[int]) -> None:
        """Write a page at each of these offsets, many at the same time."""
        image: Any = self.image  # the stubs have no asynchronous calls
        for first in range(0, len(offsets), 256):
            pending = [
                image.aio_write(b"x" * PAGE, offset, lambda _: None)
                for offset in offsets[first : first + 256]
            ]
            for completion in pending:
                completion.wait_for_complete_and_cb()


@pytest.fixture
def source(controller: Driver, view: View, request: pytest.FixtureRequest) -> Iterator[Source]:
    """Give a volume, whose snapshots go with it."""
    made = volume.create(controller, request.node.name[:40], size=SIZE)
    with view.image(made, readonly=False) as image:
        yield Source(made.id, image)
        for snapshot in list(image.list_snaps()):
            image.remove_snap_by_id(snapshot["id"])
    volume.delete(controller, made)


def allocated(controller: Driver, snapshot_id: str, **fields: Any) -> Any:
    """Begin a stream of GetMetadataAllocated."""
    request = csi_pb2.GetMetadataAllocatedRequest(snapshot_id=snapshot_id, **fields)
    return controller.snapshot_metadata.GetMetadataAllocated(request, timeout=60)


def delta(controller: Driver, base: str, target: str, **fields: Any) -> Any:
    """Begin a stream of GetMetadataDelta."""
    request = csi_pb2.GetMetadataDeltaRequest(
        base_snapshot_id=base, target_snapshot_id=target, **fields
    )
    return controller.snapshot_metadata.GetMetadataDelta(request, timeout=60)


def blocks(stream: Any) -> list[Extent]:
    """Return the blocks of a stream."""
    return [
        (block.byte_offset, block.size_bytes)
        for message in stream
        for block in message.block_metadata
    ]


def pages(extents: Sequence[Extent]) -> list[int]:
    """Return the offset of each page of the extents."""
    assert not any(each % PAGE for extent in extents for each in extent)
    return [page for offset, size in extents for page in range(offset, offset + size, PAGE)]


def _random_pages(seed: int, count: int) -> list[int]:
    return [page * PAGE for page in sorted(random.Random(seed).sample(range(SIZE // PAGE), count))]


def test_written_and_discarded_pages_are_listed_exactly(controller: Driver, source: Source) -> None:
    written = _random_pages(1, 700)
    base = source.filled()
    source.write(written)
    first = source.snapshot("first")
    assert pages(blocks(delta(controller, base, first))) == written
    assert set(written) <= set(pages(blocks(allocated(controller, first))))
    changed = _random_pages(2, 300)
    source.write(changed)
    source.image.discard(64 * MIB, 8 * MIB)  # two objects
    second = source.snapshot("second")
    listed = set(pages(blocks(delta(controller, first, second))))
    outside = {page for page in changed if not 64 * MIB <= page < 72 * MIB}
    discarded = {page for page in written if 64 * MIB <= page < 72 * MIB}
    assert outside | discarded <= listed
    # at most the discarded objects are listed beside what was written
    assert all(64 * MIB <= page < 72 * MIB for page in listed - outside)


def test_a_stream_has_the_capacity_and_messages_of_the_asked_length(
    controller: Driver, source: Source
) -> None:
    source.write([page * 2 * PAGE for page in range(100)])
    first = source.snapshot("first")
    source.image.resize(2 * SIZE)
    source.write([page * 2 * PAGE for page in range(100)])
    second = source.snapshot("second")
    for stream, capacity in (
        (allocated(controller, first, max_results=7), SIZE),
        (delta(controller, first, second, max_results=7), 2 * SIZE),
    ):
        messages = list(stream)
        assert all(0 < len(each.block_metadata) <= 7 for each in messages)
        assert {each.volume_capacity_bytes for each in messages} == {capacity}
        assert {each.block_metadata_type for each in messages} == {csi_pb2.VARIABLE_LENGTH}
    assert len(blocks(delta(controller, first, second, max_results=1 << 30))) == 100


def test_a_stream_without_blocks_has_the_capacity(controller: Driver, source: Source) -> None:
    (message,) = allocated(controller, source.snapshot("empty"))
    assert (message.volume_capacity_bytes, len(message.block_metadata)) == (SIZE, 0)
    (message,) = allocated(controller, source.snapshot("e2"), starting_offset=SIZE)
    assert (message.volume_capacity_bytes, len(message.block_metadata)) == (SIZE, 0)


def test_a_stream_is_resumed_after_any_of_its_blocks(controller: Driver, source: Source) -> None:
    base = source.filled()
    source.write(_random_pages(3, 400))
    target = source.snapshot("target")
    whole = blocks(delta(controller, base, target))
    for index in (0, 1, 57, len(whole) - 1):
        start = sum(whole[index])
        assert blocks(delta(controller, base, target, starting_offset=start)) == whole[index + 1 :]
        later = allocated(controller, target, starting_offset=start)
        assert set(pages(whole[index + 1 :])) <= set(pages(blocks(later)))
    offset, size = whole[57]
    inside = blocks(delta(controller, base, target, starting_offset=offset + 512))
    assert inside == [(offset + 512, size - 512), *whole[58:]]


def test_what_is_refused(controller: Driver, source: Source) -> None:
    first, second = source.snapshot("first"), source.snapshot("second")
    with refused("OUT_OF_RANGE", "starting_offset", str(SIZE)):
        list(allocated(controller, first, starting_offset=SIZE + 1))
    with refused("OUT_OF_RANGE"):
        list(delta(controller, first, second, starting_offset=-1))
    with refused("INVALID_ARGUMENT", "max_results"):
        list(allocated(controller, first, max_results=-1))
    with refused("INVALID_ARGUMENT", "snapshot_id is missing"):
        list(allocated(controller, ""))
    with refused("INVALID_ARGUMENT", "target_snapshot_id is missing"):
        list(delta(controller, first, ""))
    with refused("INVALID_ARGUMENT", "is not older than"):
        list(delta(controller, second, first))
    with refused("INVALID_ARGUMENT", "is not older than"):
        list(delta(controller, first, first))
    with refused("NOT_FOUND", "a snapshot_id of this driver reads"):
        list(allocated(controller, "snap-1"))
    with refused("NOT_FOUND", "not in the driver's configuration"):
        list(allocated(controller, first.replace(f":{driver.CLUSTER_ID}:", ":other:")))
    with refused("NOT_FOUND", "does not exist"):
        list(allocated(controller, f"{first}9"))
    with refused("INVALID_ARGUMENT", "of different volumes"):
        list(delta(controller, first, str(first).replace(ids.parse(source.id).image_id, "0")))
    source.image.remove_snap("first")
    with refused("NOT_FOUND", f"snapshot {first}"):
        list(delta(controller, first, second))


def test_a_snapshot_that_is_deleted_during_a_stream_ends_it_with_an_error(
    controller: Driver, source: Source
) -> None:
    base = source.filled()
    source.write([page * 2 * PAGE for page in range(10_000)])
    first = source.snapshot("first")
    stream = delta(controller, base, first, max_results=1)
    next(stream)
    source.image.remove_snap("first")
    with refused("NOT_FOUND", f"snapshot {first}"):
        list(stream)


def test_a_reader_that_leaves_or_is_slow_holds_nothing_up(
    controller: Driver, source: Source
) -> None:
    base = source.filled()
    source.write([page * 2 * PAGE for page in range(10_000)])
    first = source.snapshot("first")
    for _ in range(3):
        stream = delta(controller, base, first, max_results=1)
        next(stream)
        stream.cancel()
    ended = 'method": "GetMetadataDelta"'
    wait_until(
        lambda: sum("CANCELLED" in line and ended in line for line in _lines(controller)) == 3,
        "the calls whose readers left have ended",
    )
    slow = delta(controller, base, first, max_results=1)
    next(slow)
    assert len(blocks(delta(controller, base, first))) == 10_000
    assert len(blocks(slow)) == 10_000 - 1


def test_the_memory_of_a_stream_does_not_grow_with_its_length(
    installation: driver.Installation, source: Source
) -> None:
    apart = installation.controller("apart").start()
    base = source.filled()
    source.write([page * 2 * PAGE for page in range(10_000)])
    few = source.snapshot("few")
    assert len(blocks(delta(apart, base, few))) == 10_000
    before = _most_memory(apart)
    source.write([page * 2 * PAGE for page in range(10_000, 50_000)])
    many = source.snapshot("many")
    assert len(blocks(delta(apart, base, many))) == 50_000  # 10 MB as objects of Python
    assert _most_memory(apart) - before < 5 * MIB
    apart.stop()


def test_a_call_uses_the_user_of_its_secrets(
    cluster: Cluster, controller: Driver, source: Source, pool: str
) -> None:
    source.write([0])
    first = source.snapshot("first")
    user = "of-metadata"
    key = cluster.create_user(user, controller_caps(pool))
    try:
        secrets = {"userID": user, "userKey": key.reveal()}
        assert blocks(allocated(controller, first, secrets=secrets)) == [(0, PAGE)]
        with refused("UNAUTHENTICATED"):
            wrong = {"userID": "nobody-here", "userKey": key.reveal()}
            list(allocated(controller, first, secrets=wrong))
    finally:
        cluster.ceph("auth", "del", f"client.{user}")


def _most_memory(process: Driver) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _lines(process: Driver) -> list[str]:
    return process.words().splitlines()
