"""Frozen snapshots and rollbacks of volumes on a real kernel, with krbd and with nbd."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import driver, snapshots, volume
from e2e.clusters import commands
from e2e.vm.node import Node
from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.store import Records
from rbdcsi.ceph import snapshots as rbd_snapshots
from rbdcsi.model import ids
from rbdcsi.snapshots import freezing
from tests.integration.controller import at_once
from tests.snapshot_disk import copied, mounted_without_recovery, needs_recovery
from tests.vm import lab as labs
from tests.vm.lab import MIB, Lab
from tests.vm.test_faults import (
    assert_no_progress,
    durable,
    volume_written_to,
    wait_for_progress,
    writing,
)
from tests.vm.test_life import EACH_MAPPER, FILESYSTEMS

_SECONDS = 180


@EACH_MAPPER
@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_frozen_snapshot_needs_no_recovery_and_the_writer_goes_on(
    lab: Lab, tmp_path: Path, mapper: str, fs_type: str
) -> None:
    a, b = lab.nodes
    capability, size = volume.mounted(fs_type), FILESYSTEMS[fs_type]
    with lab.volume(mapper, capability=capability, size=size) as made:
        volume.stage(a, made)
        with writing(a, volume.publish(a, made)):
            written = durable(a)
            taken = _take_frozen(lab, made)
            wait_for_progress(a)
        with copied(lab, made, "csi-snap-frozen", tmp_path) as device:
            if fs_type == "ext4":  # the log of xfs is never empty, and has nothing to replay
                assert not needs_recovery(device, fs_type)
            with mounted_without_recovery(device, fs_type, tmp_path) as mount:
                lines = (mount / "lines").read_text().split()
        assert len(lines) >= written
        with lab.volume(
            mapper, capability=capability, size=size, source=taken.snapshot_id
        ) as restored:
            lab.detach(restored, a)
            volume.attach(lab.controller, restored, b.name)
            volume.stage(b, restored)
            assert b.machine.read(volume.publish(b, restored) / "lines").split() == lines
        snapshots.delete(lab.controller, taken.snapshot_id)


@EACH_MAPPER
def test_rolled_back_volume_has_the_bytes_of_the_snapshot_on_the_other_machine(
    lab: Lab, mapper: str
) -> None:
    a, b = lab.nodes
    with lab.volume(mapper, capability=volume.raw(), size=32 * MIB) as made:
        volume.stage(a, made)
        target = volume.publish(a, made)
        a.run(f"dd if=/dev/urandom of={target} bs=1M count=24 conv=fsync")
        written = a.run(f"sha256sum <{target}")
        taken = snapshots.create(lab.controller, "before", made.id)
        a.run(f"dd if=/dev/urandom of={target} bs=1M seek=8 count=24 conv=fsync")
        a.run(f"blkdiscard --length {4 * MIB} {target}; sync {target}")
        assert a.run(f"sha256sum <{target}") != written
        labs.take_down(a, made)
        lab.detach(made, a)

        _roll_back(lab, made, taken.snapshot_id)

        for node in (b, a):  # the one that wrote may not show what it remembers
            volume.attach(lab.controller, made, node.name)
            volume.stage(node, made)
            assert node.run(f"sha256sum <{volume.publish(node, made)}") == written
            labs.take_down(node, made)
            lab.detach(made, node)
        assert hashlib.sha256(lab.content(made)).hexdigest() == written.split()[0]
        snapshots.delete(lab.controller, taken.snapshot_id)


@EACH_MAPPER
def test_link_that_is_cut_during_a_freeze_leaves_nothing_frozen(lab: Lab, mapper: str) -> None:
    with volume_written_to(lab, mapper) as (node, made):
        try:
            with pytest.raises(errors.Unavailable, match=f"{node.name!r}, whose plugin does"):
                _take_while_the_link_is_cut(lab, made, node)
            assert_no_progress(node)
        finally:
            node.machine.join()
        wait_for_progress(node, 120)
        with lab.image(made) as image:  # it stayed, as a call would remove it that comes again
            image.remove_snap("s")
        taken = _take_frozen(lab, made)
        wait_for_progress(node)
        snapshots.delete(lab.controller, taken.snapshot_id)


def _take_frozen(lab: Lab, made: volume.Volume) -> csi_pb2.Snapshot:
    """Repeat the call: on a busy machine a snapshot takes longer than a freeze lasts."""
    parameters = {"freeze": "true"}
    return at_once.repeated(
        lambda: snapshots.create(lab.controller, "frozen", made.id, parameters=parameters),
        _SECONDS,
        ("ABORTED", "UNAVAILABLE"),
    )


def _take_while_the_link_is_cut(lab: Lab, made: volume.Volume, node: Node) -> None:
    """Take a snapshot as the controller does, while the node loses Ceph after it was taken."""
    handle, records = ids.parse(made.id), Records(lab.ioctx)

    @contextlib.contextmanager
    def cutting() -> Iterator[None]:
        with freezing.frozen(lab.ioctx, [freezing.Volume(handle, records)]):
            yield
            node.machine.cut()

    writers = records.get(handle.image_id).writers()
    rbd_snapshots.take(lab.ioctx, handle.image_id, "s", writers, cutting())


def _roll_back(lab: Lab, made: volume.Volume, snapshot: str) -> None:
    """Roll a detached volume back as an operator does."""
    with lab.image(made) as image:
        confirmed = ("--yes", "--confirm", image.get_name())
    words = ("volumes", "rollback", made.id, snapshot, *confirmed, "--config", lab.config)
    commands.run([*driver.PROGRAM, *words])
