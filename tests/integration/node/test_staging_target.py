"""A staging path is no publish target: what is staged there stays."""

import pytest

from e2e import volume
from e2e.driver import Driver
from rbdcsi.api import csi_pb2
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("capability", [volume.mounted(), volume.raw()])
@pytest.mark.parametrize("place", ["", "device", "below", ".."])
def test_staging_path_is_no_target(
    lab: Lab, capability: csi_pb2.VolumeCapability, place: str
) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-at-stage", capability=capability) as made:
        volume.stage(node, made)
        staging = made.staging(node)
        target = staging.parent if place == ".." else staging / place
        before = labs.held_at(node)
        with refused("INVALID_ARGUMENT", f"target path {target}", f"apart from {staging}"):
            labs.publish_at(node, made, target)
        assert labs.held_at(node) == before


def test_staging_path_of_another_volume_is_no_target(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("publish-here") as one, lab.volume("publish-not-there") as two:
        for made in (one, two):
            volume.stage(node, made)
        with refused("INVALID_ARGUMENT", f"apart from {two.staging(node)}"):
            labs.publish_at(node, one, two.staging(node))


@pytest.mark.parametrize("capability", [volume.mounted(), volume.raw()])
def test_unpublish_leaves_a_stage_and_its_content_alone(
    lab: Lab, victim: Driver, capability: csi_pb2.VolumeCapability
) -> None:
    with lab.volume("unpublish-stage", at=victim, capability=capability) as made:
        volume.stage(victim, made)
        staging = made.staging(victim)
        if staging.is_mount():
            (staging / "empty").mkdir()
        victim.stop()
        victim.start()
        before = labs.held_at(victim)
        for target in (staging, staging / "device", staging / "empty", staging.parent):
            with refused("INVALID_ARGUMENT", f"target path {target}", f"apart from {staging}"):
                labs.unpublish_at(victim, made, target)
        assert labs.held_at(victim) == before
        assert (staging / "empty").is_dir() is staging.is_mount()
        volume.publish(victim, made)
        volume.unpublish(victim, made)
        volume.unstage(victim, made)
        labs.unpublish_at(victim, made, staging / "device")
