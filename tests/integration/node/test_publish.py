"""NodePublishVolume and NodeUnpublishVolume: what is staged appears, nothing else does."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from e2e import volume
from e2e.driver import Driver
from rbdcsi.api import csi_pb2
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_one_staged_volume_is_published_to_several_workloads(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-many") as made:
        volume.stage(node, made)
        targets = [volume.publish(node, made, pod=f"pod-{number}") for number in range(3)]
        (targets[0] / "file").write_text("seen by all")
        assert [(target / "file").read_text() for target in targets] == ["seen by all"] * 3

        volume.unpublish(node, made, pod="pod-1")
        assert [target.exists() for target in targets] == [True, False, True]
        (targets[2] / "file").write_text("still there")
        assert (targets[0] / "file").read_text() == "still there"


def test_read_only_publish_refuses_writes_while_the_other_takes_them(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-ro") as made:
        volume.stage(node, made)
        writable = volume.publish(node, made, pod="writer")
        sealed = volume.publish(node, made, pod="reader", readonly=True)

        (writable / "file").write_text("data")
        assert (sealed / "file").read_text() == "data"
        for change in (
            lambda: (sealed / "file").write_text("x"),
            (sealed / "new").mkdir,
            (sealed / "file").unlink,
        ):
            with pytest.raises(OSError, match="Read-only") as caught:
                change()
            assert caught.value.errno == errno.EROFS
        (writable / "file").write_text("more")


def test_repeat_changes_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-repeat") as made:
        volume.stage(node, made)
        volume.publish(node, made)
        before = labs.held_at(node)
        volume.publish(node, made)
        assert labs.held_at(node) == before
        volume.unpublish(node, made)
        volume.unpublish(node, made)


@pytest.mark.parametrize("first", [False, True])
def test_same_target_with_other_readonly_already_exists(lab: Lab, first: bool) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-other-ro") as made:
        volume.stage(node, made)
        target = volume.publish(node, made, readonly=first)
        now = "read-only" if first else "read-write"
        with refused("ALREADY_EXISTS", str(target), f"{now} already"):
            volume.publish(node, made, readonly=not first)
        assert labs.mount_at(target).readonly is first


def test_repeat_on_a_volume_with_the_mount_option_ro_changes_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-option-ro", capability=volume.mounted(flags=["ro"])) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        volume.publish(node, made)
        volume.publish(node, made, readonly=True)
        assert labs.mount_at(target).readonly


def test_repeat_on_a_filesystem_that_the_kernel_made_read_only_changes_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    capability = volume.mounted(flags=["errors=remount-ro"])
    with lab.volume("publish-error-ro", capability=capability) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        sealed = volume.publish(node, made, pod="reader", readonly=True)
        device = Path(labs.mount_at(target).source)
        Path(f"/sys/fs/ext4/{device.name}/trigger_fs_error").write_text("a test")
        assert {"ro", "emergency_ro"} & set(labs.mount_at(target).super_options)
        volume.publish(node, made)
        volume.publish(node, made, pod="reader", readonly=True)
        with refused("ALREADY_EXISTS", str(target), "read-write already"):
            volume.publish(node, made, readonly=True)
        with refused("ALREADY_EXISTS", str(sealed), "read-only already"):
            volume.publish(node, made, pod="reader")


def test_same_target_with_another_volume_already_exists(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-one") as one, lab.volume("publish-two") as two:
        for made in (one, two):
            volume.stage(node, made)
        target = volume.publish(node, one)
        source = labs.mount_at(target).source
        with refused("ALREADY_EXISTS", str(target), two.id, source):
            labs.publish_at(node, two, target)
        assert labs.mount_at(target).source == source


@pytest.mark.parametrize(
    ("capability", "is_dir"), [(volume.mounted(), True), (volume.raw(), False)]
)
def test_target_is_made_with_the_right_type_and_removed(
    lab: Lab, capability: csi_pb2.VolumeCapability, is_dir: bool
) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-type", capability=capability) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        assert (target.is_dir(), target.is_block_device()) == (is_dir, not is_dir)
        volume.unpublish(node, made)
        assert not target.exists()


def test_target_that_the_caller_made_is_taken(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-premade") as made:
        volume.stage(node, made)
        made.target(node).mkdir()
        target = volume.publish(node, made)
        assert target.is_mount()
        volume.unpublish(node, made)
        assert not target.exists()


def test_target_of_the_wrong_type_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-wrong-fs") as one, _raw(lab, "publish-wrong-block") as two:
        for made in (one, two):
            volume.stage(node, made)
        one.target(node).touch()
        with refused("INVALID_ARGUMENT", str(one.target(node)), "must be a directory"):
            volume.publish(node, one)
        two.target(node).mkdir()
        with refused("INVALID_ARGUMENT", str(two.target(node)), "must be a file"):
            volume.publish(node, two)
        one.target(node).unlink()
        two.target(node).rmdir()


def _raw(lab: Lab, name: str) -> contextlib.AbstractContextManager[volume.Volume]:
    return lab.volume(name, capability=volume.raw())


def test_without_stage_is_refused_and_nothing_made(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-unstaged") as made:
        with refused("FAILED_PRECONDITION", "NodeStageVolume must come first"):
            volume.publish(node, made)
        with refused("FAILED_PRECONDITION", "staging_target_path"):
            labs.publish_at(node, made, made.target(node), staging="")
        assert not made.target(node).exists()


@pytest.mark.parametrize("capability", [volume.mounted(), volume.raw()])
def test_staging_path_that_is_a_plain_directory_is_refused(
    lab: Lab, capability: csi_pb2.VolumeCapability
) -> None:
    """As after a reboot: the path is there, on the host's own disk."""
    node = lab.nodes[0]
    with lab.volume("publish-plain", capability=capability) as made:
        volume.stage(node, made)
        plain = node.kubelet / "staging" / "plain"
        plain.mkdir()
        (plain / "device").touch()
        with refused("FAILED_PRECONDITION", str(plain), "no mount", "nothing is published"):
            labs.publish_at(node, made, made.target(node), staging=plain)
        assert not made.target(node).exists()
        (plain / "device").unlink()
        plain.rmdir()


@pytest.mark.parametrize("capability", [volume.mounted(), volume.raw()])
def test_staging_path_of_another_image_is_refused(
    lab: Lab, capability: csi_pb2.VolumeCapability
) -> None:
    node = lab.nodes[0]
    with (
        lab.volume("publish-mine", capability=capability) as mine,
        lab.volume("publish-theirs", capability=capability) as theirs,
    ):
        for made in (mine, theirs):
            volume.stage(node, made)
        with refused("FAILED_PRECONDITION", str(theirs.staging(node)), "nothing is published"):
            labs.publish_at(node, mine, mine.target(node), staging=theirs.staging(node))
        assert not mine.target(node).exists()


def test_single_writer_has_one_target_only(lab: Lab) -> None:
    node = lab.nodes[0]
    for kind in (volume.mounted, volume.raw):
        capability = kind(mode="SINGLE_NODE_SINGLE_WRITER")
        with lab.volume(f"publish-rwop-{kind.__name__}", capability=capability) as made:
            volume.stage(node, made)
            first = volume.publish(node, made, pod="first")
            volume.publish(node, made, pod="first")
            with refused("FAILED_PRECONDITION", "SINGLE_NODE_SINGLE_WRITER", str(first)):
                volume.publish(node, made, pod="second")
            assert not made.target(node, "second").exists()
            volume.unpublish(node, made, pod="first")
            volume.publish(node, made, pod="second")


def test_unpublish_of_what_never_was_is_fine(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unpublish-never") as made:
        volume.unpublish(node, made)
        labs.unpublish_at(node, made, node.kubelet / "pods" / "no" / "such" / "path")
        volume.stage(node, made)
        volume.unpublish(node, made)
        assert made.staging(node).is_mount()


def test_unpublish_of_a_target_in_use_names_the_process(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unpublish-busy") as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with (target / "open").open("w"), refused("ABORTED", str(target), f"pid {os.getpid()}"):
            volume.unpublish(node, made)
        volume.unpublish(node, made)
        assert not target.exists()


def test_data_on_the_hosts_own_disk_below_a_target_is_kept(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unpublish-data") as made:
        target = made.target(node)
        _check_kept(node, made, target / "data")
        target.rmdir()
        _check_kept(node, made, target)


def _check_kept(node: Driver, made: volume.Volume, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("the host's")
    with refused("FAILED_PRECONDITION", str(made.target(node)), "is kept"):
        volume.unpublish(node, made)
    assert file.read_text() == "the host's"
    file.unlink()
