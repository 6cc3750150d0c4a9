"""`rbdcsi attachments`: which node has which volume; the end of one that its node cannot end."""

from pathlib import Path

import click

from rbdcsi.cli import output, rows, session
from rbdcsi.model import ids
from rbdcsi.operator import reading
from rbdcsi.operator.facts import Depth


@click.group()
def attachments() -> None:
    """Show attachments, and end those of lost nodes."""


@attachments.command("ls")
@session.reads
def list_attachments(config: Path, json_wanted: bool) -> None:
    """List which node has which volume."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.RECORDS)
        table_rows = [
            row
            for cluster in clusters
            for volume in cluster.volumes
            for row in rows.attachments(volume)
        ]
        columns = ("volume", "image", "node", "state", "mode", "access", "since", "clients")
        output.table(table_rows, columns, json_wanted=json_wanted)
        session.require_complete(clusters)


@attachments.command()
@click.argument("volume")
@session.reads
def show(volume: str, config: Path, json_wanted: bool) -> None:
    """Show who has VOLUME, a volume handle: its attachments, their clients, other clients."""
    with session.connections(config) as pooled:
        facts, nodes = reading.volume(pooled, ids.parse(volume))
        attached = [
            {**row, "node_answers": bool(node_id and nodes[str(node_id)].lives)}
            for row in rows.attachments(facts)
            for node_id in [row["node"]]
        ]
        row = {"volume": volume, "attachments": attached, "clients": rows.clients(facts)}
        output.details(row, json_wanted=json_wanted)


@attachments.command()
@click.argument("volume")
@click.argument("node")
@session.with_yes
@session.with_config
def release(volume: str, node: str, yes: bool, config: Path) -> None:
    """End the attachment of VOLUME to NODE, which cannot end it itself.

    A node whose plugin lives has ten seconds to release the volume if no workload uses it.
    Otherwise each client by which it has the volume is shut out of Ceph: nothing that it still
    holds back is written.
    """
    with session.connections(config) as pooled:
        handle = ids.parse(volume)
        facts, _ = reading.volume(pooled, handle)
        if node not in facts.record.attachments and "record" not in facts.damage:
            click.echo(f"volume {volume} is not attached to node {node}")
            return
        session.require_consent(
            f"this ends the use of volume {volume} at node {node}; what the node has not written "
            "yet is lost",
            yes=yes,
        )
        session.detacher(pooled).detach(handle, node)
        click.echo(f"volume {volume} is no longer attached to node {node}")
