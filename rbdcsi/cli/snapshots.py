"""`rbdcsi snapshots`: what snapshots there are, whose they are, and which clones need them."""

from pathlib import Path

import click

from rbdcsi import errors
from rbdcsi.cli import output, session, snapshot_rows
from rbdcsi.model import ids
from rbdcsi.operator import reading
from rbdcsi.operator.facts import Depth


@click.group()
def snapshots() -> None:
    """Show snapshots of volumes."""


@snapshots.command("ls")
@click.option("--volume", help="Only those of this volume handle.")
@session.reads
def list_snapshots(volume: str | None, config: Path, json_wanted: bool) -> None:
    """List the snapshots of volumes, also those that clones of deleted snapshots keep."""
    with session.connections(config) as pooled:
        only = ids.parse(volume) if volume else None
        clusters = reading.clusters(pooled, Depth.RECORDS)
        listed = [row for cluster in clusters for row in snapshot_rows.of_cluster(cluster, only)]
        columns = ("snapshot", "name", "pool", "image", "size_bytes", "created", "state", "clones")
        output.table(listed, columns, json_wanted=json_wanted)
        session.require_complete(clusters)


@snapshots.command()
@click.argument("snapshot")
@session.reads
def show(snapshot: str, config: Path, json_wanted: bool) -> None:
    """Show all that is kept of SNAPSHOT, a snapshot handle."""
    with session.connections(config) as pooled:
        handle = ids.parse_snapshot(snapshot)
        volume, _ = reading.volume(pooled, handle.volume)
        existing = volume.header.snapshots if volume.header else ()
        for each in existing:
            if each.snap_id == handle.snap_id:
                record = reading.snapshot_record(pooled, handle)
                output.details(
                    snapshot_rows.of_snapshot(volume, each, record), json_wanted=json_wanted
                )
                return
        raise errors.NotFound(f"snapshot {handle} does not exist")
