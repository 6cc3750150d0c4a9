"""`rbdcsi volumes`: what volumes there are, how they are used, and how much data they hold."""

from collections.abc import Iterable
from pathlib import Path

import click

from rbdcsi import errors
from rbdcsi.ceph.connections import Connections
from rbdcsi.cli import output, rows, session
from rbdcsi.cli.adopt import adopt
from rbdcsi.cli.rollback import rollback
from rbdcsi.model import ids
from rbdcsi.operator import reading
from rbdcsi.operator.facts import Cluster, Depth, Volume

_IN_POOL = click.option("--pool", help="Only those of this pool.")


@click.group()
def volumes() -> None:
    """Show volumes, adopt images, and roll volumes back to snapshots."""


volumes.add_command(adopt)
volumes.add_command(rollback)


@volumes.command("ls")
@_IN_POOL
@session.reads
def list_volumes(pool: str | None, config: Path, json_wanted: bool) -> None:
    """List the volumes, with the nodes and clients that have them."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.IMAGES)
        columns = ("volume", "pool", "image", "size_bytes", "use", "state", "nodes", "watchers")
        listed = map(rows.volume, _volumes(clusters, pool))
        output.table(listed, columns, json_wanted=json_wanted)
        session.require_complete(clusters)


@volumes.command()
@click.argument("volume")
@session.reads
def show(volume: str, config: Path, json_wanted: bool) -> None:
    """Show all that is kept of VOLUME, a volume handle."""
    with session.connections(config) as pooled:
        facts, _ = reading.volume(pooled, ids.parse(volume))
        metadata = facts.header.metadata if facts.header else {}
        row = {
            **rows.volume(facts),
            "source": facts.spec and facts.spec.source,
            "ancestors": reading.ancestors(pooled, facts),
            "waits_for": rows.waits_for(facts),
            "rollback": rows.rollback(facts),
            "attachments": rows.attachments(facts),
            "clients": rows.clients(facts),
            "metadata": dict(metadata),
        }
        output.details(row, json_wanted=json_wanted)


@volumes.command()
@_IN_POOL
@session.reads
def du(pool: str | None, config: Path, json_wanted: bool) -> None:
    """Add up the data of each volume; an image without fast-diff takes long."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.RECORDS)
        measured = [
            {
                "volume": str(each.handle),
                "pool": str(each.location),
                "image": each.image,
                "size_bytes": each.header.size,
                "used_bytes": _used(pooled, each),
            }
            for each in _volumes(clusters, pool)
            if each.header
        ]
        columns = ("volume", "pool", "image", "size_bytes", "used_bytes")
        output.table(measured, columns, json_wanted=json_wanted)
        session.require_complete(clusters)


def _volumes(clusters: Iterable[Cluster], pool: str | None) -> list[Volume]:
    return [
        volume
        for cluster in clusters
        for volume in cluster.volumes
        if pool in {None, volume.location.pool}
        and (volume.header or volume.record.attachments or volume.record.deleting or volume.damage)
    ]


def _used(pooled: Connections, facts: Volume) -> int | None:
    """Return the bytes of the volume's data, None if the image was removed or cannot be read."""
    try:
        return reading.used_bytes(pooled, facts.handle)
    except errors.RbdCsiError as error:
        session.report(error)
        return None
