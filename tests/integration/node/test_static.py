"""Volumes that are images made by hand (static PersistentVolumes): used, never formatted."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import rados
import rbd

from e2e import volume
from e2e.volume import Volume
from rbdcsi.attachments.records import State
from rbdcsi.host import command
from rbdcsi.model import ids
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab
from tests.integration.node.reconciling import reconciler
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 64 * MIB


@pytest.fixture(scope="module")
def further_pools(second_pool: str) -> Sequence[str]:
    return (second_pool,)


@contextlib.contextmanager
def _by_hand(lab: Lab, content: bytes = b"") -> Iterator[Volume]:
    """Give an image of somebody's, attached at the first node, with its handle as told in docs."""
    node = lab.nodes[0]
    rbd.RBD().create(lab.ioctx, "by-hand", SIZE)
    with rbd.Image(lab.ioctx, "by-hand") as image:
        image.write(content, 0)
        image_id = image.id()
    location = ids.LocationId("local", lab.ioctx.get_pool_id(), "")
    made = Volume(str(ids.VolumeHandle(location, image_id)), volume.mounted())
    try:
        volume.attach(lab.controller, made, labs.node_id(node))
        yield made
    finally:
        labs.take_down(node, made)
        volume.detach(lab.controller, made, labs.node_id(node))
        lab.forget(made)
        rbd.RBD().remove(lab.ioctx, "by-hand")


def _ext4(directory: Path) -> bytes:
    """Return a filesystem with a file in it."""
    (directory / "tree").mkdir()
    (directory / "tree" / "file").write_text("written by hand")
    disk = directory / "disk"
    argv = ("mkfs.ext4", "-q", "-d", str(directory / "tree"), str(disk), f"{SIZE // 1024}k")
    command.run(argv, seconds=20)
    return disk.read_bytes()


def test_its_filesystem_is_mounted_and_keeps_what_is_written(lab: Lab, tmp_path: Path) -> None:
    node = lab.nodes[0]
    with _by_hand(lab, _ext4(tmp_path)) as made:
        for expected, new in (("written by hand", "and by a Pod"), ("and by a Pod", "and again")):
            volume.stage(node, made)
            target = volume.publish(node, made)
            assert (target / "file").read_text() == expected
            (target / "file").write_text(new)
            volume.unpublish(node, made)
            volume.unstage(node, made)
        assert lab.mark(made) is None


def test_it_is_never_deleted_by_the_driver(lab: Lab) -> None:
    node = lab.nodes[0]
    with _by_hand(lab) as made:
        volume.detach(lab.controller, made, labs.node_id(node))
        with refused("FAILED_PRECONDITION", "by-hand", "no volume of this driver", "`rbd`"):
            volume.delete(lab.controller, made)
        assert "by-hand" in rbd.RBD().list(lab.ioctx)


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "no filesystem"), (b"a database's own", "unknown data")]
)
def test_without_the_filesystem_it_is_refused_and_left_as_it_is(
    lab: Lab, content: bytes, found: str
) -> None:
    node = lab.nodes[0]
    with _by_hand(lab, content) as made:
        before = lab.checksum(made)
        with refused("FAILED_PRECONDITION", "by-hand", "must hold ext4", found, "mkfs.ext4"):
            volume.stage(node, made)
        assert lab.checksum(made) == before
        assert lab.mark(made) is None
        assert labs.held_at(node) == []


def test_it_is_a_raw_block_device_with_its_bytes(lab: Lab) -> None:
    node = lab.nodes[0]
    with _by_hand(lab, b"a database's own") as made:
        made.capability = volume.raw()
        volume.detach(lab.controller, made, labs.node_id(node))
        volume.attach(lab.controller, made, labs.node_id(node))
        volume.stage(node, made)
        target = volume.publish(node, made)
        with target.open("rb") as device:
            assert device.read(16) == b"a database's own"


def test_pool_without_volumes_of_the_driver_is_reconciled_too(
    lab: Lab, admin: rados.Rados, second_pool: str
) -> None:
    """A client ended with an earlier boot, and left its attachment behind."""
    node = lab.nodes[0]
    with admin.open_ioctx(second_pool) as ioctx:
        elsewhere = dataclasses.replace(lab, ioctx=ioctx)
        with _by_hand(elsewhere, b"a database's own") as made:
            elsewhere.change_client(made, node, "10.9.9.9:0/1", boot_id="an earlier one")
            reconciler(node).run()
            attachment = elsewhere.record(made, node)
            assert (attachment.state, attachment.clients) == (State.RELEASED, ())
