"""Read-only filesystems: many nodes read what one has written, and nobody can change it."""

import contextlib
import errno
from collections.abc import Iterator

import pytest

from e2e import volume
from e2e.volume import Volume
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_two_nodes_read_at_once_what_was_written_before(lab: Lab, fs_type: str) -> None:
    a, b = lab.nodes
    with lab.volume(
        f"rox-{fs_type}", capability=volume.mounted(fs_type), size=400 * labs.MIB
    ) as made:
        volume.stage(a, made)
        (made.staging(a) / "file").write_text("written once")
        volume.unstage(a, made)
        volume.detach(lab.controller, made, "node-a")
        before = lab.checksum(made)

        flags = ["nouuid"] if fs_type == "xfs" else []  # both nodes are on one kernel here
        made.capability = volume.mounted(fs_type, "MULTI_NODE_READER_ONLY", flags)
        volume.attach(lab.controller, made, "node-a")
        for node, told in ((a, made), (b, lab.again_attached(made, b))):
            volume.stage(node, told)
            target = volume.publish(node, told)
            assert (target / "file").read_text() == "written once"
            for path in (target, made.staging(node)):
                with pytest.raises(OSError, match="Read-only") as caught:
                    (path / "new").write_text("x")
                assert caught.value.errno == errno.EROFS
        assert lab.watchers(made) == {lab.record(made, node).client for node in (a, b)}
        assert lab.checksum(made) == before


def test_volume_that_was_never_formatted_is_not_formatted_for_a_reader(lab: Lab) -> None:
    node = lab.nodes[0]
    capability = volume.mounted(mode="MULTI_NODE_READER_ONLY")
    with lab.volume("rox-blank", capability=capability) as made:
        with refused("FAILED_PRECONDITION", "no filesystem yet", "read-only", "read-write"):
            volume.stage(node, made)
        assert labs.held_at(node) == []
        assert lab.mark(made) is None


@pytest.mark.parametrize("readonly", [True, False])
def test_read_only_attachment_of_one_node_is_mounted_read_only(lab: Lab, readonly: bool) -> None:
    node = lab.nodes[0]
    with _written(lab, "ro-one") as made:
        made.capability = volume.mounted(
            mode="SINGLE_NODE_WRITER" if readonly else "SINGLE_NODE_READER_ONLY"
        )
        volume.attach(lab.controller, made, "node-a", readonly=readonly)
        volume.stage(node, made)
        target = volume.publish(node, made)
        assert labs.mount_at(made.staging(node)).readonly
        assert (target / "file").read_text() == "kept"
        with pytest.raises(OSError, match="Read-only"):
            (target / "file").write_text("x")


def test_after_readers_the_writer_can_write_again(lab: Lab) -> None:
    node = lab.nodes[0]
    with _written(lab, "ro-then-rw") as made:
        made.capability = volume.mounted(mode="MULTI_NODE_READER_ONLY")
        volume.attach(lab.controller, made, "node-a")
        volume.stage(node, made)
        volume.unstage(node, made)
        volume.detach(lab.controller, made, "node-a")
        made.capability = volume.mounted()
        volume.attach(lab.controller, made, "node-a")
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("changed")


@contextlib.contextmanager
def _written(lab: Lab, name: str) -> Iterator[Volume]:
    """Give a volume that holds a file and is detached."""
    node = lab.nodes[0]
    with lab.volume(name) as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("kept")
        volume.unstage(node, made)
        volume.detach(lab.controller, made, "node-a")
        yield made
