"""A kernel with SELinux: the label that the kubelet asks for by a mount option is every file's.

That is what `seLinuxMount` of the chart's CSIDriver promises. The policy is one of a page and
refuses nothing; a distribution's own, in force, is not tried here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import volume
from e2e.clusters import commands
from e2e.vm.node import Node
from tests.refusal import refused
from tests.vm import lab as labs
from tests.vm.lab import Lab

POLICY = Path(__file__).with_name("selinux.policy")
CONFIG = "/etc/selinux/config"  # the image of the driver has it
LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
FLAGS = ("noatime", f'context="{LABEL}"')


@pytest.fixture
def node(lab: Lab, tmp_path: Path) -> Iterator[Node]:
    """Give the node whose kernel has SELinux, with a policy; it ends with a reboot."""
    node = lab.nodes[1]
    compiled = tmp_path / "policy"
    commands.run(["checkpolicy", "-M", "-U", "allow", "-o", compiled, POLICY])
    content = compiled.read_bytes()
    at_once = f"dd bs={len(content)} iflag=fullblock of=/sys/fs/selinux/load status=none"
    node.run(f"mount -t selinuxfs selinuxfs /sys/fs/selinux; {at_once}", stdin=content)
    yield node
    node.reboot()


def test_the_label_that_the_kubelet_asks_for_is_every_file_s(lab: Lab, node: Node) -> None:
    with lab.volume("krbd", capability=volume.mounted(flags=FLAGS)) as made:
        lab.move(made, lab.nodes[0], node)
        with refused("FAILED_PRECONDITION", CONFIG):  # mount(8) would drop it
            volume.stage(node, made)
        node.machine.write(CONFIG, "")
        for _ in range(2):
            volume.stage(node, made)
            target = volume.publish(node, made)
        node.run(f"echo text >{target}/new")

        assert node.run(f"stat --format %C {target} {target}/new").split() == [LABEL, LABEL]
        shown = labs.mount_at(node, target)
        assert shown
        assert "noatime" in shown.options
