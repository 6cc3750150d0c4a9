"""What a node says of itself: to the kubelet by NodeGetInfo, to the controllers in Ceph."""

import dataclasses

import pytest
import rados

from e2e import driver, pool, volume
from e2e.clusters import commands
from e2e.driver import Driver
from rbdcsi.api import csi_pb2
from rbdcsi.attachments import store
from rbdcsi.nodes import presence
from rbdcsi.nodes import registry as registry
from tests import faults
from tests.integration.node.conftest import wait_until_registered
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

ZONE = "topology.kubernetes.io/zone"


@pytest.fixture(scope="module")
def described(installation: driver.Installation, ioctx: rados.Ioctx) -> Driver:
    """Give a node that tells all it can."""
    flags = ("--max-volumes", "7", "--topology", f"{ZONE}=a", "--topology", "rack=r1")
    node = installation.node("node-d", *flags).start()
    wait_until_registered(ioctx, node)
    return node


def test_info_has_id_limit_and_topology(described: Driver) -> None:
    info = described.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest())
    assert (info.node_id, info.max_volumes_per_node) == ("node-d", 7)
    assert dict(info.accessible_topology.segments) == {ZONE: "a", "rack": "r1"}


def test_info_leaves_out_what_was_not_told(lab: Lab) -> None:
    info = lab.nodes[0].node.NodeGetInfo(csi_pb2.NodeGetInfoRequest())
    assert (info.node_id, info.max_volumes_per_node) == ("node-a", 0)
    assert not info.HasField("accessible_topology")


def test_capabilities_are_those_that_work(lab: Lab) -> None:
    answer = lab.nodes[0].node.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())
    rpc = csi_pb2.NodeServiceCapability.RPC
    assert {capability.rpc.type for capability in answer.capabilities} == {
        rpc.STAGE_UNSTAGE_VOLUME,
        rpc.GET_VOLUME_STATS,
        rpc.EXPAND_VOLUME,
        rpc.SINGLE_NODE_MULTI_WRITER,
    }


def test_record_in_ceph_has_the_limit_and_the_mapper(described: Driver, ioctx: rados.Ioctx) -> None:
    record = registry.Nodes(ioctx).get(described.name)
    assert record.max_volumes == 7
    assert record.addresses
    assert "fuse" in record.mappers


def test_watch_that_ceph_ended_is_renewed_before_the_next_heartbeat(
    installation: driver.Installation, lab: Lab
) -> None:
    """As after a break of the network: the plugin shows no sign of life for a while."""
    node = installation.node("node-w").start()
    wait_until_registered(lab.ioctx, node)
    with faults.frozen(node.pid):
        assert presence.lives(lab.ioctx, "node-w")  # it may come back
        commands.wait_until(
            lambda: not presence.lives(lab.ioctx, "node-w"), "Ceph ends the watch", timeout=120
        )
    commands.wait_until(lambda: presence.lives(lab.ioctx, "node-w"), "the watch is renewed")
    assert "watch ended by Ceph" in node.words(), node.words()
    node.stop()


def test_node_that_ceph_does_not_know_cannot_have_a_volume(lab: Lab) -> None:
    with lab.volume("unknown-node") as made, refused("NOT_FOUND", "node-x"):
        volume.attach(lab.controller, made, "node-x")


def test_node_that_has_not_registered_since_its_boot_stages_nothing(lab: Lab) -> None:
    node, nodes = lab.nodes[0], registry.Nodes(lab.ioctx)
    record = nodes.get(node.name)
    with lab.volume("rebooted") as made:
        nodes.swap(nodes.text(node.name), dataclasses.replace(record, boot_id="before"))
        with refused("UNAVAILABLE", "is not registered in Ceph since its machine was started"):
            volume.stage(node, made)
        assert lab.record(made, node).clients == ()
        nodes.swap(nodes.text(node.name), record)
        volume.stage(node, made)
        assert lab.record(made, node).clients[0].boot_id == record.boot_id


def test_the_record_keeps_the_boots_that_have_ended(lab: Lab, victim: Driver) -> None:
    nodes, node_id = registry.Nodes(lab.ioctx), victim.name
    victim.stop()
    record = nodes.get(node_id)
    earlier = dataclasses.replace(record, boot_id="b-2", ended_boots=("b-1",))
    nodes.swap(nodes.text(node_id), earlier)
    victim.start()
    commands.wait_until(lambda: nodes.get(node_id).boot_id == record.boot_id, "it registers")
    assert nodes.get(node_id).ended_boots == ("b-1", "b-2")


def test_one_process_serves_all(installation: driver.Installation, ioctx: rados.Ioctx) -> None:
    whole = installation.whole("node-all").start()
    wait_until_registered(ioctx, whole)
    made = volume.create(whole, "all-in-one")
    volume.attach(whole, made, "node-all")
    volume.stage(whole, made)
    (volume.publish(whole, made) / "file").write_text("there")
    volume.unpublish(whole, made)
    volume.unstage(whole, made)
    volume.detach(whole, made, "node-all")
    volume.delete(whole, made)
    commands.wait_until(lambda: not list(store.Records(ioctx).all()), "its data is gone")
    whole.stop()


def test_nodes_of_two_kubernetes_clusters_may_have_one_name(
    installation: driver.Installation, lab: Lab
) -> None:
    ids = ("east/node-1", "west/node-1")  # by the chart's `clusterName`
    east, west = (
        installation.node(node_id.partition("/")[0], "--node-id", node_id).start()
        for node_id in ids
    )
    for node_id in ids:
        pool.wait_until_registered(lab.ioctx, node_id)
    made = volume.create(lab.controller, "of-the-east", size=16 * volume.MIB)
    volume.attach(lab.controller, made, ids[0])
    volume.stage(east, made)
    with refused("FAILED_PRECONDITION", f"not attached to node '{ids[1]}'", ids[0]):
        volume.stage(west, made)
    with refused("FAILED_PRECONDITION", f"is staged at node '{ids[0]}'"):
        volume.attach(lab.controller, made, ids[1])
    volume.unstage(east, made)
    volume.detach(lab.controller, made, ids[0])
    volume.delete(lab.controller, made)
    east.stop()
    west.stop()
