"""An image that was used as a raw block device, or holds data anywhere, is never formatted."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from e2e import volume
from e2e.driver import Driver
from e2e.volume import Volume
from rbdcsi.api import csi_pb2
from rbdcsi.model import format_mark
from rbdcsi.model.format_mark import Mark, Phase
from tests.integration.node import lab as labs
from tests.integration.node.lab import MIB, Lab
from tests.integration.node.test_crash import dying_after
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

RAW = Mark(Phase.RAW, "ext4")
FORMATTED = Mark(Phase.FORMATTED, "ext4")


def _attached_as(
    lab: Lab, made: Volume, node: Driver, capability: csi_pb2.VolumeCapability
) -> Volume:
    """Return the volume, detached and attached again to be used so."""
    volume.detach(lab.controller, made, labs.node_id(node))
    other = dataclasses.replace(made, capability=capability)
    volume.attach(lab.controller, other, labs.node_id(node))
    return other


def _write_raw(node: Driver, made: Volume, offset: int) -> None:
    """Stage as a block device, write somewhere in its middle, and unstage."""
    volume.stage(node, made)
    with (made.staging(node) / "device").open("r+b", buffering=0) as device:
        os.pwrite(device.fileno(), b"data" * 1024, offset)
        os.fsync(device.fileno())
    volume.unstage(node, made)


def _generation(lab: Lab, made: Volume) -> int:
    with lab.image(made, readonly=True) as image:
        return int(json.loads(dict(image.metadata_list())[format_mark.KEY])["generation"])


def test_image_used_raw_is_not_formatted_afterwards(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("raw-then-mount") as made:
        as_block = _attached_as(lab, made, node, volume.raw())
        _write_raw(node, as_block, 32 * MIB)
        assert lab.mark(made) == RAW
        assert _generation(lab, made) == int(as_block.publish_context["generation"])
        before = lab.checksum(made)

        as_mount = _attached_as(lab, made, node, volume.mounted())
        with refused(
            "FAILED_PRECONDITION", made.context["imageName"], "raw block device", "image-meta set"
        ):
            volume.stage(node, as_mount)
        assert (lab.checksum(made), lab.mark(made)) == (before, RAW)
        assert labs.held_at(node) == []

        volume.stage(node, _attached_as(lab, made, node, volume.raw()))


def test_raw_mark_is_written_before_the_device_can_be_seen(lab: Lab, victim: Driver) -> None:
    with lab.volume("raw-killed", at=victim) as made:
        as_block = _attached_as(lab, made, victim, volume.raw())
        dying_after("stage.raw", victim, lambda node: volume.stage(node, as_block))
        assert lab.mark(made) == RAW
        assert not (made.staging(victim) / "device").exists()
        volume.stage(victim, as_block)


def test_raw_use_of_an_image_whose_format_was_cut_off_is_refused(lab: Lab, victim: Driver) -> None:
    with lab.volume("cut-then-raw", at=victim) as made:
        dying_after("stage.formatting", victim, lambda node: volume.stage(node, made))
        volume.unstage(victim, made)
        before = lab.checksum(made), lab.mark(made)

        as_block = _attached_as(lab, made, victim, volume.raw())
        with refused("FAILED_PRECONDITION", "making ext4 on it was interrupted", "image-meta"):
            volume.stage(victim, as_block)
        assert (lab.checksum(made), lab.mark(made)) == before
        assert labs.held_at(victim) == []

        volume.stage(victim, _attached_as(lab, made, victim, volume.mounted()))
        assert lab.mark(made) == FORMATTED


def test_blank_head_and_tail_with_data_between_them_is_not_formatted(lab: Lab) -> None:
    with lab.volume("data-between") as made:
        lab.write(made, b"data", 32 * MIB)
        before = lab.checksum(made)
        with refused("FAILED_PRECONDITION", "never formatted by this driver", "data between"):
            volume.stage(lab.nodes[0], made)
        assert (lab.checksum(made), lab.mark(made)) == (before, None)


def test_data_is_seen_without_an_object_map_too(lab: Lab) -> None:
    with lab.volume("data-no-map", parameters={"imageFeatures": "layering"}) as made:
        lab.write(made, b"data", 32 * MIB)
        with refused("FAILED_PRECONDITION", "data between"):
            volume.stage(lab.nodes[0], made)
        assert lab.mark(made) is None


def test_formatted_image_is_used_raw_and_stays_formatted(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("mount-then-raw") as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("data")
        volume.unstage(node, made)

        _stage_and_unstage(node, _attached_as(lab, made, node, volume.raw()))
        assert lab.mark(made) == FORMATTED

        again = _attached_as(lab, made, node, volume.mounted())
        volume.stage(node, again)
        assert (Path(again.staging(node)) / "file").read_text() == "data"


def test_read_only_raw_use_leaves_no_mark(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("raw-read-only") as made:
        volume.detach(lab.controller, made, labs.node_id(node))
        as_block = dataclasses.replace(made, capability=volume.raw())
        volume.attach(lab.controller, as_block, labs.node_id(node), readonly=True)
        _stage_and_unstage(node, as_block)
        assert lab.mark(made) is None
        volume.stage(node, _attached_as(lab, made, node, volume.mounted()))


def test_each_mark_carries_the_generation_of_its_attachment(lab: Lab, victim: Driver) -> None:
    with lab.volume("mark-generation", at=victim) as made:
        dying_after("stage.mkfs", victim, lambda node: volume.stage(node, made))
        volume.unstage(victim, made)
        first = _generation(lab, made)
        again = _attached_as(lab, made, victim, volume.mounted())
        volume.stage(victim, again)
        assert _generation(lab, made) == int(again.publish_context["generation"]) > first


def _stage_and_unstage(node: Driver, made: Volume) -> None:
    volume.stage(node, made)
    volume.unstage(node, made)
