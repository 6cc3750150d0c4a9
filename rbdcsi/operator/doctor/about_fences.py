"""Rules about fences. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from rbdcsi.attachments.fences import Fence
from rbdcsi.nodes.registry import NodeRecord
from rbdcsi.operator.doctor.findings import Finding, command
from rbdcsi.operator.facts import Cluster
from rbdcsi.operator.fences import proof_of_end

_DAY = "86400"
_FORMER = timedelta(days=1)  # a machine that was replaced just now is none to be looked for


def fence_state(cluster: Cluster) -> Iterator[Finding]:
    """Find fences that are needed and end, or stand and are not needed."""
    for each in cluster.fences:
        if each.note is None:
            continue
        node = cluster.nodes.get(each.note.node_id)
        proof = proof_of_end(each.note, node.record if node else None)
        if proof and each.in_force and "lift" in cluster.lacks:
            continue  # the driver cannot lift it, and it ends by itself
        if proof:
            yield _needless(cluster, each.note, proof)
        elif node is None or each.note.retired:
            yield _of_retired_node(cluster, each.note)
        elif not each.in_force:
            yield _not_in_force(cluster, each.note)
        elif _is_former_machines(each.note, node.record, cluster.now):
            yield _of_former_machine(cluster, each.note)


def _needless(cluster: Cluster, note: Fence, proof: str) -> Finding:
    return Finding(
        "fence-past-its-time",
        cluster.cluster_id,
        note.address,
        f"{_described(note)} still stands, though {proof}",
        "nothing by itself; but a controller should have lifted it",
        "see that a controller runs and that its user may change the blocklist, or lift it by hand",
        (command("rbdcsi", "fences", "lift", note.address),),
    )


def _of_retired_node(cluster: Cluster, note: Fence) -> Finding:
    return Finding(
        "fence-of-retired-node",
        cluster.cluster_id,
        note.address,
        f"{_described(note)} is not renewed, because the node was retired; it ends {note.until}",
        f"a machine that comes back after that can write to {note.volume}",
        "see that the machine is switched off for good, then lift the fence",
        (command("rbdcsi", "fences", "lift", note.address),),
    )


def _is_former_machines(note: Fence, node: NodeRecord | None, now: datetime) -> bool:
    is_old = now - datetime.fromisoformat(note.since) > _FORMER
    return is_old and node is not None and note.machine_id not in {"", node.machine_id}


def _of_former_machine(cluster: Cluster, note: Fence) -> Finding:
    return Finding(
        "fence-of-former-machine",
        cluster.cluster_id,
        note.address,
        f"{_described(note)} is of a machine that is not the node's any more ({note.machine_id})",
        "nothing while the fence is renewed, which goes on until the machine is known to be gone",
        "if that machine is switched off for good, or was installed again, lift the fence",
        (command("rbdcsi", "fences", "lift", note.address),),
    )


def _not_in_force(cluster: Cluster, note: Fence) -> Finding:
    return Finding(
        "fence-not-in-force",
        cluster.cluster_id,
        note.address,
        f"{_described(note)} is noted until {note.until}, but the client is not on Ceph's "
        "blocklist",
        f"if the machine comes back, it can write to {note.volume} beside its next holder",
        "shut the client out again, and see that a controller runs, which renews the entry",
        (command("ceph", "osd", "blocklist", "add", note.address, _DAY),),
    )


def without_note(cluster: Cluster) -> Iterator[Finding]:
    """Find clients of attachments that are on the blocklist without a note of the driver."""
    noted = cluster.noted_addresses()
    for volume in cluster.volumes:
        for node_id, _, client in volume.clients():
            if client.address not in cluster.blocklist or client.address in noted:
                continue
            yield Finding(
                "blocklisted-client",
                cluster.cluster_id,
                client.address,
                f"the client by which node {node_id!r} has volume {volume.handle} is on Ceph's "
                "blocklist, and the driver did not put it there",
                "the workload there gets I/O errors, and the entry is not renewed",
                "end the attachment; the volume can then be attached again",
                (command("rbdcsi", "attachments", "release", volume.handle, node_id),),
            )


def damaged_fence(cluster: Cluster) -> Iterator[Finding]:
    """Find notes of fences that cannot be decoded."""
    for each in cluster.fences:
        if each.damage is not None:
            yield Finding(
                "damaged-record",
                cluster.cluster_id,
                f"fence {each.address}",
                each.damage,
                "the entry of the blocklist is not renewed: after it, the client can write again",
                "see that the client's machine is switched off or was restarted, then lift the "
                "fence",
                (command("rbdcsi", "fences", "lift", each.address),),
            )


def _described(note: Fence) -> str:
    return f"the fence of a client of node {note.node_id!r}, since {note.since},"


RULES = (fence_state, without_note, damaged_fence)
