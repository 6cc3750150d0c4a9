"""Facts as rows of tables and JSON, whose keys do not change."""

from rbdcsi.attachments.records import Attachment
from rbdcsi.cli.output import Row
from rbdcsi.model.ids import SnapshotHandle
from rbdcsi.operator.facts import Cluster, Node, NotedFence, Volume
from rbdcsi.operator.fences import proof_of_end
from rbdcsi.volumes import dependants


def volume(facts: Volume) -> dict[str, object]:
    """Return the row of a volume."""
    return {
        "volume": str(facts.handle),
        "pool": str(facts.location),
        "image": facts.image,
        "size_bytes": facts.header.size if facts.header else None,
        "use": _use(facts),
        "state": _state(facts),
        "nodes": sorted(facts.record.attachments),
        "watchers": sorted(facts.watchers),
        "damage": list(facts.damage.values()),
    }


def _use(facts: Volume) -> str:
    """Return how the image was used so far, and what it was made for."""
    if "mark" in facts.damage:
        return "damaged"
    if facts.mark:
        phase, fs_type = facts.mark.phase.value, facts.mark.fs_type
        return phase if phase == "raw" else f"{fs_type} ({phase})"
    if facts.spec:
        return f"{facts.spec.fs_type or 'raw'} (unused)"
    return "damaged" if "spec" in facts.damage else "unmanaged"


def _state(facts: Volume) -> str:
    if facts.damage:
        return "damaged"
    if facts.record.deleting:
        return "waiting" if waits_for(facts) else "deleting"
    if facts.header is None:
        return "no image"
    if facts.record.rollback:
        return "rolling back"
    return "attached" if facts.record.attachments else "free"


def waits_for(facts: Volume) -> str | None:
    """Return the snapshots and clones that a deleted volume waits for, None if it does not wait."""
    if not facts.record.deleting or facts.header is None:
        return None
    needed_by = dependants.of_header(facts.header)
    return str(needed_by) if needed_by else None


def rollback(facts: Volume) -> dict[str, object] | None:
    """Return the rollback of a volume that has not ended, None if there is none."""
    unfinished = facts.record.rollback
    if unfinished is None:
        return None
    return {
        "snapshot": str(SnapshotHandle(facts.handle, unfinished.snap_id)),
        "rbd_snapshot": unfinished.snapshot,
        "client": unfinished.client,
        "since": unfinished.since,
    }


def attachments(facts: Volume) -> list[dict[str, object]]:
    """Return a row for each attachment of a volume; of a damaged record, a row that says so."""
    rows = [
        _attachment(facts, node_id, attachment)
        for node_id, attachment in sorted(facts.record.attachments.items())
    ]
    if "record" in facts.damage:
        rows.append(_attachment(facts, None, None))
    return rows


def _attachment(
    facts: Volume, node_id: str | None, attachment: Attachment | None
) -> dict[str, object]:
    access_type = attachment and attachment.access_type
    return {
        "volume": str(facts.handle),
        "image": f"{facts.location}/{facts.image}",
        "node": node_id,
        "state": attachment.state.value if attachment else "damaged",
        "mode": attachment and attachment.mode.value,
        "access": access_type and access_type.value,
        "readonly": attachment and attachment.readonly,
        "generation": attachment and attachment.generation,
        "since": attachment and attachment.since,
        "clients": [client.address for client in attachment.clients] if attachment else [],
        "damage": facts.damage.get("record"),
    }


def clients(facts: Volume) -> list[dict[str, object]]:
    """Return a row for each client of a volume: those in its record, and those that watch."""
    rows: dict[str, dict[str, object]] = {
        address: {
            "client": address,
            "node": None,
            "machine": None,
            "boot": None,
            "mapper": None,
            "watches": True,
        }
        for address in sorted(facts.watchers)
    }
    for node_id, _, client in facts.clients():
        rows[client.address] = {
            "client": client.address,
            "node": node_id,
            "machine": client.machine_id,
            "boot": client.boot_id,
            "mapper": client.mapper,
            "watches": client.address in facts.watchers,
        }
    return list(rows.values())


def node(facts: Node, cluster: Cluster) -> dict[str, object]:
    """Return the row of a node."""
    record, volumes = facts.record, cluster.volumes_of(facts.node_id)
    return {
        "node": facts.node_id,
        "cluster": cluster.cluster_id,
        "plugin": "answers" if facts.lives else "silent" if facts.answers.silent else "gone",
        "attached": len(volumes),
        "volumes": [str(each.handle) for each in volumes],
        "max_volumes": record and record.max_volumes,
        "mappers": list(record.mappers) if record else [],
        "topology": dict(record.topology) if record else {},
        "addresses": list(record.addresses) if record else [],
        "machine": record and record.machine_id,
        "boot": record and record.boot_id,
        "version": record and record.driver_version,
        "last_seen": record and record.last_seen,
        "damage": facts.damage or (None if record else "the node has no record"),
    }


def fence(facts: NotedFence, cluster: Cluster) -> Row:
    """Return the row of a fence."""
    note = facts.note
    owner = cluster.nodes.get(note.node_id) if note else None
    return {
        "client": facts.address,
        "cluster": cluster.cluster_id,
        "node": note and note.node_id,
        "volume": note and note.volume,
        "since": note and note.since,
        "until": note and note.until,
        "in_force": facts.in_force,
        "client_ended": proof_of_end(note, owner.record if owner else None) if note else None,
        "damage": facts.damage,
    }
