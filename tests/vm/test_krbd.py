"""What is krbd's alone: its options, its clients, and the images that it cannot map."""

import pytest

from e2e import volume
from e2e.clusters import commands
from e2e.vm.node import Node
from rbdcsi.model import image_layout
from tests.refusal import refused
from tests.vm import lab as labs
from tests.vm.lab import Lab

JOURNALED = {"imageFeatures": "layering,exclusive-lock,journaling"}


def attribute(node: Node, device: str, name: str) -> str:
    """Return what the kernel says of a mapped image."""
    return node.run(f"cat /sys/bus/rbd/devices/{device.removeprefix('/dev/rbd')}/{name}")


def test_map_options_reach_the_kernel(lab: Lab) -> None:
    node = lab.nodes[0]
    options = {"mapOptions": "krbd:queue_depth=32,ms_mode=prefer-crc;nbd:io-timeout=60"}
    with lab.volume("krbd", parameters=options) as made:
        volume.stage(node, made)
        device = labs.device_of(node, made)

        assert node.run(f"cat /sys/block/{device.removeprefix('/dev/')}/queue/nr_requests") == "32"
        assert "queue_depth=32,ms_mode=prefer-crc" in attribute(node, device, "config_info")


@pytest.mark.parametrize(
    "options",
    [
        "queue_depth=1,alloc_size=512,osdkeepalive=1,osd_idle_ttl=1,lock_timeout=0,mount_timeout=0,"
        "osd_request_timeout=0",
        "queue_depth=4294967295,alloc_size=2147483648,osdkeepalive=2147483,osd_idle_ttl=2147483,"
        "lock_timeout=2147483,mount_timeout=2147483,osd_request_timeout=2147483",
    ],
    ids=["least", "most"],
)
def test_the_kernel_takes_values_at_the_ends_of_their_ranges(lab: Lab, options: str) -> None:
    with lab.volume("krbd", parameters={"mapOptions": f"krbd:{options}"}) as made:
        volume.stage(lab.nodes[0], made)


def test_value_that_the_kernel_does_not_take_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    # a number that begins with 0 is octal for the kernel, and passes at CreateVolume
    with lab.volume("krbd", parameters={"mapOptions": "krbd:queue_depth=08"}) as made:
        with refused("INVALID_ARGUMENT", "option", "dmesg"):
            volume.stage(node, made)
        assert labs.held_at(node) == []


def test_each_device_has_a_client_of_its_own(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("krbd") as one, lab.volume("krbd") as two:
        for made in (one, two):
            volume.stage(node, made)
        devices = [labs.device_of(node, made) for made in (one, two)]

        assert len({attribute(node, device, "client_id") for device in devices}) == 2
        assert len({lab.record(made, node).client for made in (one, two)}) == 2


def test_a_fenced_device_goes_although_the_note_is_about_another_one(lab: Lab) -> None:
    """As if the volume was staged again by a plugin that did not know the first device."""
    node = lab.nodes[0]
    with lab.volume("krbd") as made:
        volume.stage(node, made)
        volume.publish(node, made)
        node.kill()
        node.run(
            """sed -i -E 's#"device":"[^"]*"#"device":"/dev/rbd99"#;"""
            """ s#"client":"[^"]*"#"client":"10.9.9.9:0/1"#' /run/rbdcsi/notes/*"""
        )
        volume.detach(lab.controller, made, node.name)
        node.start()
        commands.wait_until(lambda: not node.run("ls /sys/bus/rbd/devices"), "it is unmapped")
        volume.unpublish(node, made)
        volume.unstage(node, made)
        assert labs.held_at(node) == []


@pytest.mark.smoke
def test_key_is_nowhere_to_be_seen(lab: Lab) -> None:
    node = lab.nodes[0]
    _, key = node.user
    with lab.volume("krbd") as made:
        volume.stage(node, made)
        shown = attribute(node, labs.device_of(node, made), "config_info")

        assert "key=client.node" in shown
        for text in (shown, node.words(), node.run("dmesg"), node.run("ps -ef")):
            assert key.reveal() not in text


def test_image_with_a_feature_that_the_kernel_lacks_is_refused_with_the_cure(lab: Lab) -> None:
    """CreateVolume knows that no kernel has it, so there is no image to stage."""
    words = ("mounter: krbd", "feature journaling", "mounter rbd-nbd", "tryOtherMounters")
    with refused("INVALID_ARGUMENT", *words), lab.volume("krbd", parameters=JOURNALED):
        pass


def test_mapper_that_can_is_taken_for_it_if_that_is_allowed(lab: Lab) -> None:
    node = lab.nodes[0]
    allowed = {**JOURNALED, "tryOtherMounters": "true"}
    with lab.volume("krbd", parameters=allowed) as made:
        volume.stage(node, made)

        assert labs.device_of(node, made).startswith("/dev/nbd")


def test_kernel_says_which_features_it_knows(lab: Lab) -> None:
    """The file that is asked before mapping, on the real kernel."""
    known = int(lab.nodes[0].run("cat /sys/bus/rbd/supported_features"), 16)

    assert image_layout.mask(image_layout.DEFAULT) & ~known == 0
    assert image_layout.BITS["journaling"] & known == 0


def test_striped_image_with_a_layout_of_its_own_is_mapped(lab: Lab) -> None:
    node = lab.nodes[0]
    layout = {"objectSize": "1M", "stripeUnit": "64K", "stripeCount": "4"}
    with lab.volume("krbd", parameters=layout) as made:
        volume.stage(node, made)
        target = volume.publish(node, made)

        assert labs.write(node, target) == labs.checksum(node, target)
