"""Options for unmapping: `force` does what it says, and none keeps a volume on the node."""

import pytest

from e2e import volume
from rbdcsi.attachments.records import State
from rbdcsi.volumes import spec
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("text", ["force", "krbd:force", "krbd:force;nbd:force", "fuse:force"])
def test_forced_unmapping_takes_the_device_away_and_loses_nothing(lab: Lab, text: str) -> None:
    node = lab.nodes[0]
    with lab.volume("unmap-force", parameters={"unmapOptions": text}) as made:
        volume.stage(node, made)
        (made.staging(node) / "file").write_text("data")
        volume.unstage(node, made)
        assert labs.held_at(node) == []
        assert lab.record(made, node).state is State.RELEASED
        volume.stage(node, made)
        assert (made.staging(node) / "file").read_text() == "data"


def test_forced_unmapping_of_a_device_in_use_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    parameters = {"unmapOptions": "fuse:force"}
    with lab.volume("unmap-in-use", capability=volume.raw(), parameters=parameters) as made:
        volume.stage(node, made)
        with (made.staging(node) / "device").open("rb"), refused("ABORTED"):
            volume.unstage(node, made)
        assert lab.record(made, node).state is State.STAGED


def test_other_options_are_refused_before_there_is_a_volume(lab: Lab) -> None:
    with refused("INVALID_ARGUMENT", "unmapOptions: 'lazy' for krbd", "write force"):
        volume.create(lab.controller, "unmap-lazy", parameters={"unmapOptions": "lazy"})


@pytest.mark.parametrize(
    "unmap_options", [{"fuse": "lazy"}, {"fuse": "--help"}, {"fuse": 5}, "force", None, ["fuse"]]
)
def test_no_option_in_metadata_keeps_a_volume_staged(lab: Lab, unmap_options: object) -> None:
    node = lab.nodes[0]
    with lab.volume("unmap-stranded") as made:
        volume.stage(node, made)
        lab.change_spec(made, unmap_options=unmap_options)
        volume.unstage(node, made)
        assert labs.held_at(node) == []
        assert lab.record(made, node).state is State.RELEASED
        lab.change_spec(made, unmap_options={})


def test_damaged_metadata_keeps_no_volume_staged(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("unmap-damaged") as made:
        volume.stage(node, made)
        with lab.image(made) as image:
            before = image.metadata_get(spec.KEY)
        lab.set_metadata(made, spec.KEY, "{")
        volume.unstage(node, made)
        assert labs.held_at(node) == []
        lab.set_metadata(made, spec.KEY, before)
