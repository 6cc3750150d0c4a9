"""The driver's main job: data written at one node is read at the other."""

import os

import pytest

from e2e import volume
from e2e.driver import Driver

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs"])
def test_data_written_at_one_node_is_read_at_the_other(
    controller: Driver, nodes: tuple[Driver, Driver], fs_type: str
) -> None:
    size = 400 * volume.MIB
    made = volume.create(
        controller, f"move-{fs_type}", size=size, capability=volume.mounted(fs_type)
    )
    data = os.urandom(1 << 20)
    for node, name in zip(nodes, ("node-a", "node-b"), strict=True):
        volume.attach(controller, made, name)
        volume.stage(node, made)
        target = volume.publish(node, made)
        if name == "node-a":
            (target / "file").write_bytes(data)
        else:
            assert (target / "file").read_bytes() == data
        volume.unpublish(node, made)
        assert not target.exists()
        volume.unstage(node, made)
        volume.detach(controller, made, name)
    volume.delete(controller, made)
