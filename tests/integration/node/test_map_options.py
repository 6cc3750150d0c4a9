"""Options for mapping and mounting: refused before there is a volume, and again where used."""

import pytest

from e2e import volume
from rbdcsi.attachments.records import State
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

MINE = "rbd_read_from_replica_policy=balance,rados_osd_op_timeout=60"


def test_options_of_each_mapper_are_stored_and_only_the_nodes_own_reach_it(lab: Lab) -> None:
    node = lab.nodes[0]
    text = f"krbd:lock_on_read,queue_depth=1024;nbd:try-netlink,timeout=60;fuse:{MINE}"
    with lab.volume("map-options", parameters={"mapOptions": text}) as made:
        volume.stage(node, made)
        (configuration,) = (node.directory / "state/fuse").glob("*/ceph.conf")
        lines = configuration.read_text().splitlines()
        assert {option.replace("=", " = ") for option in MINE.split(",")} <= set(lines)
        assert not any("queue_depth" in line or line == "timeout = 60" for line in lines)


@pytest.mark.parametrize(
    "parameters",
    [
        {"mapOptions": "fuse:queue_depth=8"},
        {"mapOptions": "exclusive"},
        {"mapOptions": "krbd:secret=AQB"},
        {"mapOptions": "krbd:queue_depth=0"},
        {"mapOptions": "nbd:quiesce-hook=/bin/sh"},
        {"imageFeatures": "layering,exclusive-lock,journaling", "mounter": "krbd"},
    ],
    ids=str,
)
def test_what_no_node_takes_is_refused_before_there_is_a_volume(
    lab: Lab, parameters: dict[str, str]
) -> None:
    with refused("INVALID_ARGUMENT"):
        volume.create(lab.controller, "map-refused", parameters=parameters)


@pytest.mark.parametrize(
    "text", ["rbd_persistent_cache_path=/etc", "keyring=/etc/shadow", "rbd_cache=true"]
)
def test_map_options_in_metadata_are_refused_before_the_image_is_mapped(
    lab: Lab, text: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("map-tampered") as made:
        lab.change_spec(made, map_options={"fuse": text})
        with refused("FAILED_PRECONDITION", made.context["imageName"], "not allowed for fuse"):
            volume.stage(node, made)
        assert labs.held_at(node) == []
        assert lab.record(made, node).state is State.ATTACHED
        lab.change_spec(made, map_options={})
        volume.stage(node, made)


@pytest.mark.parametrize("flag", ["loop=/dev/loop0", "bind", "remount", "offset=4096", "no-such"])
def test_mount_options_of_a_class_are_refused_before_there_is_a_volume(lab: Lab, flag: str) -> None:
    with refused("INVALID_ARGUMENT", f"mount option '{flag}' is not allowed for ext4"):
        volume.create(lab.controller, "flags", capability=volume.mounted(flags=[flag]))


def test_mount_options_of_a_class_must_go_together(lab: Lab) -> None:
    capability = volume.mounted("xfs", flags=["sunit=8"])
    with refused("INVALID_ARGUMENT", "mount options for xfs: 'sunit=8' needs swidth"):
        volume.create(lab.controller, "flags", capability=capability)


@pytest.mark.parametrize("flag", ["loop=/dev/loop0", "bind", "remount", "offset=4096", "no-such"])
def test_mount_options_of_a_volume_are_refused_before_it_is_mapped(lab: Lab, flag: str) -> None:
    """Those of a static PersistentVolume are in no CreateVolume."""
    node = lab.nodes[0]
    with lab.volume("flags-stage") as made:
        with refused("INVALID_ARGUMENT", f"mount option '{flag}' is not allowed for ext4"):
            labs.stage_with(node, made, capability=volume.mounted(flags=[flag]))
        assert labs.held_at(node) == []
        assert (lab.record(made, node).state, lab.mark(made)) == (State.ATTACHED, None)
        volume.stage(node, made)


@pytest.mark.parametrize(
    ("fs_type", "flags"),
    [
        ("ext4", ["discard", "noatime,nodiratime", "commit=60"]),
        ("xfs", ["nouuid", "discard", "logbsize=256k"]),
        ("btrfs", ["compress=zstd:3", "discard=async"]),
    ],
)
def test_common_mount_options_reach_the_mount(lab: Lab, fs_type: str, flags: list[str]) -> None:
    capability = volume.mounted(fs_type, flags=flags)
    with lab.volume("flags-ok", capability=capability, size=512 * labs.MIB) as made:
        volume.stage(lab.nodes[0], made)
        assert labs.mount_at(made.staging(lab.nodes[0])).fs_type == fs_type
