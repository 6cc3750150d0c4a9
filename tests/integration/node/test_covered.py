"""A volume is staged only as it is attached: the access type, and a mode that is covered."""

import dataclasses

import pytest

from e2e import volume
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

SHARED = volume.raw("MULTI_NODE_MULTI_WRITER")


def test_block_device_shared_by_two_nodes_is_mounted_by_none(lab: Lab) -> None:
    a, b = lab.nodes
    with lab.volume("shared-block", at=a) as made:
        volume.detach(lab.controller, made, labs.node_id(a))
        at_nodes = {node.name: dataclasses.replace(made, capability=SHARED) for node in (a, b)}
        for name, each in at_nodes.items():
            volume.attach(lab.controller, each, name)
        for node in (a, b):
            with refused(
                "FAILED_PRECONDITION",
                "MULTI_NODE_MULTI_WRITER (read-write, block)",
                "mount SINGLE_NODE_WRITER",
            ):
                labs.stage_with(node, at_nodes[node.name], capability=volume.mounted())
            assert labs.held_at(node) == []
        assert lab.mark(made) is None

        # the kubelet passes the first of the PersistentVolume's accessModes, which may be this one
        for node in (a, b):
            labs.stage_with(node, at_nodes[node.name], capability=volume.raw())


def test_repeated_attach_with_another_access_type_is_refused(lab: Lab) -> None:
    with lab.volume("other-access") as made:
        other = dataclasses.replace(made, capability=volume.raw())
        with refused("ALREADY_EXISTS", "(read-write, mount)", "(read-write, block)"):
            volume.attach(lab.controller, other, labs.node_id(lab.nodes[0]))


def test_mode_beyond_the_attachment_is_refused(lab: Lab) -> None:
    node = lab.nodes[0]
    capability = volume.mounted(mode="SINGLE_NODE_SINGLE_WRITER")
    with lab.volume("other-mode", capability=capability) as made:
        with refused("FAILED_PRECONDITION", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITE"):
            labs.stage_with(node, made, capability=volume.mounted(mode="SINGLE_NODE_MULTI_WRITER"))
        assert labs.held_at(node) == []
        volume.stage(node, made)


def test_attachment_of_a_driver_that_noted_no_access_type_is_staged(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("no-access-type") as made:
        lab.forget_access_type(made)
        assert lab.record(made, node).access_type is None
        volume.stage(node, made)
