"""Allocated and changed blocks rebuild each snapshot, byte for byte, whatever happened before.

Pieces are small here, so that images of a megabyte have many; their real size is used beside gRPC
(test_snapshot_metadata.py).
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import rados
import rbd

from e2e import driver
from e2e.clusters import Cluster
from rbdcsi.ceph import connections, snapshot_diff
from rbdcsi.ceph.locations import Locations
from rbdcsi.config import clusters_file
from rbdcsi.model import ids
from rbdcsi.model.extents import Extent
from rbdcsi.snapshots.changed_blocks import ChangedBlocks
from tests.integration.snapshots import random_image
from tests.integration.snapshots.random_image import OBJECT

_MOST_EXTENTS = 20
_Content = tuple[ids.SnapshotHandle, bytes]

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def writer(cluster: Cluster, pool: str) -> Iterator[rados.Ioctx]:
    """Give the pool to a client that discards each byte that it is told to, as krbd does."""
    options = {
        "rbd_skip_partial_discard": "false",
        "rbd_discard_granularity_bytes": "4096",
        "rbd_default_clone_format": "2",
    }
    with cluster.connection(**options) as client, client.open_ioctx(pool) as ioctx:
        yield ioctx


@pytest.fixture
def blocks(
    installation: driver.Installation, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChangedBlocks]:
    monkeypatch.setattr(snapshot_diff, "_MOST_BYTES", 8 * OBJECT)
    monkeypatch.setattr(snapshot_diff, "_PIECE_BYTES", 3 * OBJECT // 2)
    monkeypatch.setattr(snapshot_diff, "_MOST_EXTENTS", _MOST_EXTENTS)
    monkeypatch.setattr(snapshot_diff, "_OBJECTS", 5)
    pooled = connections.Connections(clusters_file.load(Path(installation.config)), timeout=10)
    yield ChangedBlocks(pooled, Locations(pooled))
    pooled.close_idle()


def _handle(writer: rados.Ioctx, image_id: str, snap_id: int) -> ids.SnapshotHandle:
    location = ids.LocationId(driver.CLUSTER_ID, writer.get_pool_id(), "")
    return ids.SnapshotHandle(ids.VolumeHandle(location, image_id), snap_id)


def _listed(
    blocks: ChangedBlocks, base: ids.SnapshotHandle | None, target: ids.SnapshotHandle, start: int
) -> list[Extent]:
    """Return the blocks, and check what holds for every list of them."""
    found = list(blocks.between(base, target, start) if base else blocks.allocated(target, start))
    (capacity,) = {each.capacity for each in found}
    listed = [extent for each in found for extent in each.extents]
    ends = [start, *(offset + length for offset, length in listed)]
    assert all(end <= offset for end, (offset, _) in zip(ends, listed, strict=False)), listed
    assert all(length > 0 for _, length in listed)
    assert ends[-1] <= capacity
    return listed


def _check(blocks: ChangedBlocks, writer: rados.Ioctx, seed: int) -> None:
    rng = random.Random(seed)
    with random_image.made(writer, seed) as image:
        contents = [
            (_handle(writer, image.image_id, snap_id), content)
            for snap_id, content in image.snapshots
        ]
        for base, before, target, content in _pairs(contents):
            listed = _listed(blocks, base, target, 0)
            restored = random_image.applied(before, content, listed)
            assert restored == content, f"{base} to {target} of {image.history}"
            # a stream that broke off somewhere goes on from there
            start = rng.randrange(len(content) + 1)
            resumed = _listed(blocks, base, target, start)
            half = content[:start] + before[start:]
            assert random_image.applied(half, content, resumed) == content, image.history


def _pairs(
    contents: Sequence[_Content],
) -> Iterator[tuple[ids.SnapshotHandle | None, bytes, *_Content]]:
    for target in contents:
        yield None, b"", *target
    for base, target in itertools.combinations(contents, 2):
        yield *base, *target


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(24))
def test_blocks_rebuild_the_snapshots(
    blocks: ChangedBlocks, writer: rados.Ioctx, seed: int
) -> None:
    _check(blocks, writer, seed)


def test_an_answer_with_too_many_extents_is_broken_off(
    blocks: ChangedBlocks, writer: rados.Ioctx
) -> None:
    name, sector = "many-extents", 512
    chosen = range(0, 8 * OBJECT, OBJECT // 8)  # at most 12 in a piece, 64 in all
    rbd.RBD().create(writer, name, 8 * OBJECT, order=OBJECT.bit_length() - 1, old_format=False)
    try:
        with rbd.Image(writer, name) as image:
            image.write(b"o" * image.size(), 0)  # a new object counts as a whole
            image.create_snap("base")
            for offset in chosen:
                image.write(b"x" * sector, offset)
            image.create_snap("target")
            base, target = (
                _handle(writer, image.id(), each["id"])
                for each in sorted(image.list_snaps(), key=lambda each: int(each["id"]))
            )
        lists = [each.extents for each in blocks.between(base, target, 0)]
        assert [extent for each in lists for extent in each] == [(at, sector) for at in chosen]
        assert max(map(len, lists)) <= _MOST_EXTENTS
    finally:
        with rbd.Image(writer, name) as image:
            for snapshot in image.list_snaps():
                image.remove_snap(snapshot["name"])
        rbd.RBD().remove(writer, name)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_blocks_rebuild_the_snapshots_of_many_images(
    blocks: ChangedBlocks, writer: rados.Ioctx
) -> None:
    for seed in range(1000, 1500):
        _check(blocks, writer, seed)
