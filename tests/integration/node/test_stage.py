"""NodeStageVolume: what is mounted, what Ceph is told, what is refused, and what is undone."""

import contextlib
import re
from concurrent import futures
from pathlib import Path

import pytest
import rbd

from e2e import volume
from e2e.clusters import Cluster, commands, node_caps
from rbdcsi.attachments import rules, store
from rbdcsi.attachments.records import State
from rbdcsi.host import command
from rbdcsi.model.format_mark import Mark, Phase
from tests import faults
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs"])
def test_filesystem_is_made_once_and_mounted_with_the_flags(lab: Lab, fs_type: str) -> None:
    node = lab.nodes[0]
    capability = volume.mounted(fs_type, flags=["noatime"])
    with lab.volume(f"stage-{fs_type}", capability=capability, size=400 * MIB) as made:
        volume.stage(node, made)

        entry = labs.mount_at(made.staging(node))
        assert entry.fs_type == fs_type
        assert "noatime" in entry.options
        assert not entry.readonly
        assert lab.mark(made) == Mark(Phase.FORMATTED, fs_type)


def test_record_names_the_client_that_ceph_lists(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-record") as made:
        assert lab.record(made, node).state is State.ATTACHED
        volume.stage(node, made)

        held = lab.record(made, node)
        assert held.state is State.STAGED
        assert {held.client} == lab.watchers(made)
        volume.unstage(node, made)
        assert lab.record(made, node).state is State.RELEASED
        assert lab.watchers(made) == set()


def test_mkfs_options_of_the_storage_class_are_applied(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-mkfs", parameters={"mkfsOptions": "-L labelled -I 512"}) as made:
        volume.stage(node, made)

        source = labs.mount_at(made.staging(node)).source
        shown = command.run(("dumpe2fs", "-h", source), seconds=20).text
        assert re.search(r"Filesystem volume name: +labelled", shown)
        assert re.search(r"Inode size:\s+512", shown)


def test_repeat_changes_nothing(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-repeat") as made:
        volume.stage(node, made)
        before = labs.held_at(node), lab.record(made, node)
        (made.staging(node) / "file").write_text("kept")

        volume.stage(node, made)

        assert (labs.held_at(node), lab.record(made, node)) == before
        assert (made.staging(node) / "file").read_text() == "kept"


def test_repeat_with_another_capability_already_exists(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-other") as made:
        volume.stage(node, made)
        before = labs.held_at(node)
        for other in (volume.mounted("xfs"), volume.raw()):
            with refused("ALREADY_EXISTS", str(made.staging(node)), "ext4"):
                labs.stage_with(node, made, capability=other)
        assert labs.held_at(node) == before
        assert sorted(path.name for path in made.staging(node).iterdir()) == ["lost+found"]


def test_block_volume_staged_again_as_filesystem_already_exists(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-other-block", capability=volume.raw()) as made:
        volume.stage(node, made)
        before = labs.held_at(node), lab.checksum(made)
        with refused("ALREADY_EXISTS", str(made.staging(node)), "block"):
            labs.stage_with(node, made, capability=volume.mounted())
        assert (labs.held_at(node), lab.checksum(made)) == before


def test_not_attached_is_refused_with_who_is(lab: Lab) -> None:
    a, b = lab.nodes
    with lab.volume("stage-unattached", at=a) as made:
        with refused("FAILED_PRECONDITION", "not attached", "node-b", "attached: node-a"):
            volume.stage(b, made)
        volume.detach(lab.controller, made, "node-a")
        with refused("FAILED_PRECONDITION", "not attached", "no node"):
            volume.stage(a, made)
        assert labs.held_at(a) == labs.held_at(b) == []


def test_generation_of_an_ended_attachment_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-stale") as made:
        stale = dict(made.publish_context)
        volume.detach(lab.controller, made, "node-a")
        volume.attach(lab.controller, made, "node-a")
        with refused("FAILED_PRECONDITION", "generation 2", "generation 1", "ended"):
            labs.stage_with(node, made, context=stale)
        assert labs.held_at(node) == []
        volume.stage(node, made)


@pytest.mark.parametrize("generation", [None, "", "-1", "x", "1" * 30])
def test_missing_or_odd_generation_is_invalid(lab: Lab, generation: str | None) -> None:
    context = {} if generation is None else {"generation": generation}
    with (
        lab.volume("stage-no-generation") as made,
        refused("INVALID_ARGUMENT", "generation", "ControllerPublishVolume"),
    ):
        labs.stage_with(lab.nodes[0], made, context=context)


def test_volume_that_is_being_detached_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-detaching") as made:
        lab.change_client(made, node, "10.9.9.9:0/1")
        store.Records(lab.ioctx).change(
            lab.image_id(made), lambda r: rules.begin_detach(r, "node-a", r.generation, "now")
        )
        with refused("FAILED_PRECONDITION", "being detached", "node-a"):
            volume.stage(node, made)
        assert labs.held_at(node) == []
        lab.change_client(made, node, "10.9.9.9:0/1", boot_id="an earlier one")


def test_volume_whose_image_was_deleted_is_not_found(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-vanished") as made:
        with lab.image(made, readonly=True) as image:
            name = image.get_name()
        rbd.RBD().remove(lab.ioctx, name)
        with refused("NOT_FOUND", made.id, "image is gone"):
            volume.stage(node, made)
        assert labs.held_at(node) == []


@pytest.mark.parametrize("volume_id", ["nonsense", "../../etc", "v1:local:1::zz zz", "x" * 4096])
def test_what_is_no_volume_is_not_found(lab: Lab, volume_id: str) -> None:
    made = volume.Volume(volume_id, volume.mounted(), publish_context={"generation": "1"})
    with refused("NOT_FOUND", "does not exist"):
        labs.stage_with(lab.nodes[0], made, staging=lab.nodes[0].kubelet / "staging" / "none")


def test_staging_path_that_does_not_exist_is_said_and_all_is_undone(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-nowhere") as made:
        missing = node.kubelet / "staging" / "missing"
        with refused("NOT_FOUND", str(missing), "does not exist"):
            labs.stage_with(node, made, staging=missing)
        assert labs.held_at(node) == []
        assert lab.record(made, node).state in {State.ATTACHED, State.RELEASED}
        volume.stage(node, made)


def test_failed_mount_is_undone_and_the_right_call_works(lab: Lab) -> None:
    node, flags = lab.nodes[0], ["journal_async_commit"]  # not with data=ordered
    with lab.volume("stage-bad-flag") as made:
        with refused("INTERNAL", "mount", flags[0]):
            labs.stage_with(node, made, capability=volume.mounted(flags=flags))

        assert labs.held_at(node) == []
        held = lab.record(made, node)
        assert (held.state, held.client) == (State.RELEASED, None)
        assert lab.watchers(made) == set()
        volume.detach(lab.controller, made, "node-a")
        volume.attach(lab.controller, made, "node-a")
        volume.stage(node, made)


def test_staging_path_with_another_mount_already_exists(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-one") as one, lab.volume("stage-two") as two:
        volume.stage(node, one)
        with refused("ALREADY_EXISTS", str(one.staging(node)), two.id):
            labs.stage_with(node, two, staging=one.staging(node))
        assert len(labs.daemons(node)) == 1
        assert lab.record(two, node).state is State.ATTACHED


def test_call_without_its_arguments_is_invalid(lab: Lab) -> None:
    with lab.volume("stage-arguments") as made:
        nothing = volume.Volume("", made.capability)
        with refused("INVALID_ARGUMENT", "volume_id"):
            labs.stage_with(lab.nodes[0], nothing, staging="/x")
        with refused("INVALID_ARGUMENT", "staging_target_path"):
            labs.stage_with(lab.nodes[0], made, staging="")
        with refused("INVALID_ARGUMENT", "with a filesystem"):
            labs.stage_with(
                lab.nodes[0], made, capability=volume.mounted(mode="MULTI_NODE_MULTI_WRITER")
            )
        with refused("INVALID_ARGUMENT", "ntfs"):
            labs.stage_with(lab.nodes[0], made, capability=volume.mounted("ntfs"))


def test_credentials_of_the_call_are_used(lab: Lab, cluster: Cluster, pool: str) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-secrets") as made, contextlib.ExitStack() as undo:
        key = cluster.create_user("stager", node_caps(pool))
        undo.callback(cluster.ceph, "auth", "rm", "client.stager")
        right = {"userID": "stager", "userKey": key.reveal()}
        wrong = {**right, "userKey": _another_key(cluster)}

        with refused("UNAUTHENTICATED", "client.stager"):
            labs.stage_with(node, made, secrets=wrong)
        assert labs.held_at(node) == []
        labs.stage_with(node, made, secrets=right)

        (pid,) = labs.daemons(node).values()
        told = Path(f"/proc/{pid}/cmdline").read_text()
        assert '"user": "stager"' in told
        assert key.reveal() not in told
        assert key.reveal() not in node.words()


def _another_key(cluster: Cluster) -> str:
    return str(cluster.ceph("auth", "get-key", "client.admin")["key"])


def test_attachment_that_ended_while_mapping_is_refused_and_unmapped(
    lab: Lab, cluster: Cluster
) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-raced") as made, futures.ThreadPoolExecutor() as background:
        with faults.frozen_mon(cluster):  # the mapping's new client waits, open ones go on
            call = background.submit(volume.stage, node, made)
            commands.wait_until(lambda: bool(labs.daemons(node)), "the daemon starts")
            lab.forget(made)
        with refused("FAILED_PRECONDITION", "not attached", "node-a"):
            call.result()
        assert labs.held_at(node) == []
        assert lab.mark(made) is None


def test_volume_made_for_raw_block_use_gets_no_filesystem(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("stage-raw-only", capability=volume.raw()) as made:
        lab.write(made, b"data in the middle", 30 * MIB)
        before = lab.checksum(made)
        volume.detach(lab.controller, made, "node-a")
        made.capability = volume.mounted()
        volume.attach(lab.controller, made, "node-a")
        with refused("FAILED_PRECONDITION", "raw block", made.id):
            volume.stage(node, made)
        assert labs.held_at(node) == []
        assert lab.checksum(made) == before
