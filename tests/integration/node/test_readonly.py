"""Read-only filesystems: many nodes read what one has written, and nobody can change it."""

import contextlib
import errno
import os
from collections.abc import Iterator

import pytest

from e2e import volume
from e2e.volume import Volume
from rbdcsi.model import format_mark
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


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs"])
def test_reader_of_a_journal_that_must_be_replayed_is_told_how_to_mend_it(
    lab: Lab, fs_type: str
) -> None:
    node, size = lab.nodes[0], 400 * labs.MIB
    writer = volume.mounted(fs_type)
    reader = volume.mounted(fs_type, "SINGLE_NODE_READER_ONLY")
    with (
        lab.volume(f"ro-origin-{fs_type}", capability=writer, size=size) as origin,
        lab.volume(f"ro-journal-{fs_type}", capability=writer, size=size) as copy,
    ):
        volume.stage(node, origin)
        with (origin.staging(node) / "file").open("w") as opened:
            opened.write("synced")
            opened.flush()
            os.fsync(opened.fileno())
        with lab.image(origin) as source, lab.image(copy) as target:
            for offset in range(0, size, labs.MIB):
                if any(data := source.read(offset, labs.MIB)):
                    target.write(data, offset)
        lab.set_metadata(copy, format_mark.KEY, lab.metadata(origin)[format_mark.KEY])
        volume.unstage(node, origin)

        before = lab.checksum(copy)
        for capability, is_refused in ((reader, True), (writer, False), (reader, False)):
            volume.detach(lab.controller, copy, "node-a")
            copy.capability = capability
            volume.attach(lab.controller, copy, "node-a")
            if is_refused:
                with refused("FAILED_PRECONDITION", fs_type, "journal", "once read-write"):
                    volume.stage(node, copy)
                assert lab.checksum(copy) == before
                assert labs.held_at(node) == []
            else:
                volume.stage(node, copy)
                assert (copy.staging(node) / "file").read_text() == "synced"
                volume.unstage(node, copy)


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
