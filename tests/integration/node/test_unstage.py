"""NodeUnstageVolume: in any order, as often as it is asked, and never a success that is none."""

import contextlib
import os
import signal

import grpc
import pytest
import rbd

from e2e import volume
from e2e.clusters import commands
from e2e.driver import Driver
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.records import State
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

KINDS = {"filesystem": volume.mounted(), "block": volume.raw()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_at_the_node(lab: Lab, kind: str) -> None:
    node = lab.nodes[0]
    with lab.volume(f"unstage-{kind}", capability=KINDS[kind]) as made:
        volume.stage(node, made)
        volume.publish(node, made)
        volume.unpublish(node, made)
        volume.unstage(node, made)

        assert labs.held_at(node) == []
        assert list(made.staging(node).iterdir()) == []
        assert lab.record(made, node).state is State.RELEASED
        assert lab.watchers(made) == set()


def test_before_and_without_stage_is_fine(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-never") as made:
        volume.unstage(node, made)
        assert labs.held_at(node) == []
        volume.stage(node, made)


def test_twice_is_fine(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-twice") as made:
        volume.stage(node, made)
        volume.unstage(node, made)
        volume.unstage(node, made)
        assert lab.record(made, node).state is State.RELEASED


def test_staging_path_that_is_gone_is_fine(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-gone") as made:
        made.staging(node).rmdir()
        _unstage_at(node, made, str(node.kubelet / "staging" / "never"))


def test_stage_works_again_with_the_data_that_was_written(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-again") as made:
        for round_trip in range(3):
            volume.stage(node, made)
            (made.staging(node) / f"file-{round_trip}").write_text("kept")
            volume.unstage(node, made)
        volume.stage(node, made)
        kept = sorted(path.name for path in made.staging(node).glob("file-*"))
        assert kept == ["file-0", "file-1", "file-2"]


def test_open_file_keeps_it_staged_and_the_process_is_named(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-busy") as made:
        volume.stage(node, made)
        with (made.staging(node) / "open").open("w") as opened:
            with refused("ABORTED", str(made.staging(node)), f"pid {os.getpid()}", "in use"):
                volume.unstage(node, made)
            opened.write("still writable")
            opened.flush()
            assert lab.record(made, node).state is State.STAGED
        volume.unstage(node, made)
        assert labs.held_at(node) == []


def test_open_block_device_keeps_it_staged_and_the_process_is_named(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-busy-block", capability=volume.raw()) as made:
        volume.stage(node, made)
        with (made.staging(node) / "device").open("rb", buffering=0):
            with refused("ABORTED", f"pid {os.getpid()}", "in use"):
                volume.unstage(node, made)
            assert lab.record(made, node).state is State.STAGED
        volume.unstage(node, made)
        assert labs.held_at(node) == []


@pytest.mark.parametrize("kind", KINDS)
def test_volume_that_is_still_published_stays(lab: Lab, kind: str) -> None:
    node = lab.nodes[0]
    with lab.volume(f"unstage-published-{kind}", capability=KINDS[kind]) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)
        with refused("ABORTED", str(target)):
            volume.unstage(node, made)
        assert lab.record(made, node).state is State.STAGED
        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []


def test_volume_whose_image_vanished_is_taken_down(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-vanished") as made:
        volume.stage(node, made)
        (pid,) = labs.daemons(node).values()
        with lab.image(made, readonly=True) as image:
            name = image.get_name()
        os.kill(pid, signal.SIGTERM)
        commands.wait_until(lambda: not labs.daemons(node), "the daemon has ended")
        rbd.RBD().remove(lab.ioctx, name)
        with pytest.raises(rbd.ImageNotFound), rbd.Image(lab.ioctx, name):
            pass
        volume.unstage(node, made)
        assert labs.held_at(node) == []


@pytest.mark.parametrize("volume_id", ["nonsense", "v1:local:999::102a", "x" * 4096])
def test_what_is_no_volume_of_ours_harms_nothing(lab: Lab, volume_id: str) -> None:
    node = lab.nodes[0]
    with lab.volume("unstage-other") as made:
        volume.stage(node, made)
        before = labs.held_at(node)
        stranger = volume.Volume(volume_id, volume.mounted())
        with contextlib.suppress(grpc.RpcError):  # NOT_FOUND is as right as OK
            _unstage_at(node, stranger, str(node.kubelet / "staging" / "stranger"))
        assert labs.held_at(node) == before


def test_call_without_its_arguments_is_invalid(lab: Lab) -> None:
    node = lab.nodes[0]
    with refused("INVALID_ARGUMENT", "volume_id"):
        _unstage_at(node, volume.Volume("", volume.mounted()), "/x")
    with refused("INVALID_ARGUMENT", "staging_target_path"):
        _unstage_at(node, volume.Volume("v1:local:1::1", volume.mounted()), "")


def _unstage_at(node: Driver, made: volume.Volume, path: str) -> None:
    node.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=made.id, staging_target_path=path)
    )
