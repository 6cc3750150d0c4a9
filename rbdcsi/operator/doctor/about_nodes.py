"""Rules about nodes. Pure."""

from collections.abc import Iterator

from rbdcsi.operator.doctor.findings import Finding, command
from rbdcsi.operator.facts import Cluster


def no_living_node(cluster: Cluster) -> Iterator[Finding]:
    """Find attachments of nodes whose plugin does not answer."""
    for node_id in cluster.nodes:
        volumes, node = cluster.volumes_of(node_id), cluster.node(node_id)
        if node is None or node.lives or not volumes:
            continue
        silent = "watches, but does not answer" if node.answers.silent else "does not run"
        seen = f" (last seen {node.record.last_seen})" if node.record else ""
        yield Finding(
            "no-living-node",
            cluster.cluster_id,
            node.node_id,
            f"volumes are attached to the node ({len(volumes)}, such as {volumes[0].handle}), and "
            f"its node plugin {silent}{seen}",
            "they are free for another node only once this one has released them or is fenced",
            "bring the node back, or fence it if it is lost: what it has not written yet is lost",
            (command("rbdcsi", "nodes", "fence", node.node_id),),
        )


def node_id_twice(cluster: Cluster) -> Iterator[Finding]:
    """Find node ids that several machines use."""
    for node in cluster.nodes.values():
        machines = {answer.machine_id for answer in node.answers.answers}
        if node.record and node.record.refused:
            machines.add(node.record.refused.machine_id)
        if len(machines) > 1:
            yield Finding(
                "node-id-twice",
                cluster.cluster_id,
                node.node_id,
                f"node plugins of {len(machines)} machines run, or just ran, with this node id: "
                f"{', '.join(sorted(machines))}",
                "only one of them serves; a volume that is attached to the id may be staged at the "
                "wrong machine",
                "end one of them, and give each machine a --node-id of its own (chart: "
                "clusterName, if two Kubernetes clusters share a pool)",
            )


def damaged_node(cluster: Cluster) -> Iterator[Finding]:
    """Find node records that cannot be decoded."""
    for node in cluster.nodes.values():
        if node.damage is None:
            continue
        if node.lives:
            remedy, verbs = "its plugin runs and writes the record again within a minute", []
        else:
            remedy = "start its node plugin, which writes the record again; or retire the node"
            verbs = ["retire"]
        yield Finding(
            "damaged-record",
            cluster.cluster_id,
            f"node {node.node_id}",
            node.damage,
            "no volume can be attached to the node",
            remedy,
            tuple(command("rbdcsi", "nodes", verb, node.node_id) for verb in verbs),
        )


RULES = (no_living_node, node_id_twice, damaged_node)
