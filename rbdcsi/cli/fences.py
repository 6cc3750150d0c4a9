"""`rbdcsi fences`: the clients that the driver shut out of Ceph, and how to let one in again."""

from pathlib import Path

import click

from rbdcsi import errors
from rbdcsi.cli import output, rows, session
from rbdcsi.operator import fences as verbs
from rbdcsi.operator import reading
from rbdcsi.operator.facts import Depth


@click.group()
def fences() -> None:
    """Show fences, and lift those that are not needed."""


@fences.command("ls")
@session.reads
def list_fences(config: Path, json_wanted: bool) -> None:
    """List the driver's fences, and whether Ceph has them in force."""
    with session.connections(config) as pooled:
        clusters = reading.clusters(pooled, Depth.RECORDS)
        table_rows = [
            rows.fence(fence, cluster) for cluster in clusters for fence in cluster.fences
        ]
        columns = ("client", "cluster", "node", "volume", "since", "until", "in_force")
        output.table(table_rows, columns, json_wanted=json_wanted)
        session.require_complete(clusters)


@fences.command()
@click.argument("client")
@session.with_yes
@session.with_config
def lift(client: str, yes: bool, config: Path) -> None:
    """Let CLIENT (ip:port/nonce) into Ceph again.

    Controllers lift the fence of a client that is proved gone: its node reported so, or its
    machine was restarted. By hand, any fence can be lifted.
    """
    with session.connections(config) as pooled:
        missing: list[str] = []
        for cluster in pooled.configured.clusters:
            with pooled.use(cluster.cluster_id) as connection:
                try:
                    risk = verbs.risk(connection, client)
                except errors.NotFound as error:
                    missing.append(str(error))
                    continue
                if risk:
                    session.require_consent(f"fence of client {client}: {risk}", yes=yes)
                verbs.lift(connection, client)
                click.echo(f"the fence of client {client} is lifted")
        if len(missing) == len(pooled.configured.clusters):
            raise errors.NotFound("\n".join(missing))
