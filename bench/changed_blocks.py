"""M16: the blocks that changed between two snapshots, beside `rbd diff`; and the memory of it."""

import rbd

from bench.lab import FEATURES, MIB, Lab, timed
from bench.listing import resident
from bench.metric import Comparison, Figure, Goal, Result, alternate
from e2e.clusters import commands
from e2e.driver import CLUSTER_ID
from rbdcsi.api import csi_pb2
from rbdcsi.model import ids

_SIZE = 10 << 30
_OBJECT = 4 * MIB
_CHANGE = 64 << 10  # bytes of one write; all of them are a hundredth of the image


def measure(lab: Lab) -> list[Result]:
    """Compare two snapshots of an image, in which each object has data and a hundredth changed."""
    with lab.pool() as (pool, ioctx):
        rbd.RBD().create(ioctx, "image", _SIZE, old_format=False, features=FEATURES)
        with rbd.Image(ioctx, "image") as image:
            for end in range(_OBJECT, _SIZE + 1, _OBJECT):  # librbd lists a longer object whole
                image.write(b"x" * 4096, end - 4096)
            image.create_snap("base")
            chosen = range(0, _SIZE // _CHANGE, 100)
            for place in chosen:
                image.write(b"y" * _CHANGE, place * _CHANGE)
            image.create_snap("target")
            location = ids.LocationId(CLUSTER_ID, ioctx.get_pool_id(), "")
            volume = ids.VolumeHandle(location, image.id())
            base, target = sorted(
                (ids.SnapshotHandle(volume, each["id"]) for each in image.list_snaps()),
                key=lambda handle: handle.snap_id,
            )
        before = resident(lab.controller.pid)
        where = ("--conf", lab.cluster.conf, "--keyring", lab.cluster.keyring)
        diff = ("rbd", *where, "diff", "--format", "json", "--from-snap", "base")
        rounds = alternate(
            lambda _: timed(lambda: _expect(_delta(lab, base, target), len(chosen) * _CHANGE)),
            lambda _: timed(lambda: commands.run([*diff, f"{pool}/image@target"])),
            lab.rounds(10),
            warmups=1,
        )
        growth = resident(lab.controller.pid) - before
    return [
        Comparison("M16", "delta of 10 GiB, 1 % changed", "`rbd diff`", rounds, Goal(1.2)),
        Figure("M16", "the controller's memory for it", growth, "MB", Goal(20)),
    ]


def _delta(lab: Lab, base: ids.SnapshotHandle, target: ids.SnapshotHandle) -> int:
    request = csi_pb2.GetMetadataDeltaRequest(
        base_snapshot_id=str(base), target_snapshot_id=str(target)
    )
    stream = lab.controller.snapshot_metadata.GetMetadataDelta(request)
    return sum(block.size_bytes for message in stream for block in message.block_metadata)


def _expect(changed: int, least: int) -> None:
    assert least <= changed < 2 * least, f"{changed} bytes are listed, {least} were changed"
