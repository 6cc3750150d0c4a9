"""`rbdcsi volumes rollback`: a volume gets the content of one of its snapshots again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from rbdcsi.cli import session
from rbdcsi.model import ids
from rbdcsi.operator import rollback as verbs
from rbdcsi.operator.rollback import Plan
from rbdcsi.volumes import spec

_NANOSECONDS = 1_000_000_000


@click.command()
@click.argument("volume")
@click.argument("snapshot")
@click.option(
    "--confirm", metavar="IMAGE", help="The name of the volume's image, instead of typing it."
)
@session.with_yes
@session.with_config
def rollback(volume: str, snapshot: str, confirm: str | None, yes: bool, config: Path) -> None:
    """Give VOLUME the content of SNAPSHOT again; all that was written since is lost.

    VOLUME is a volume handle that no node has attached. SNAPSHOT is one of its own: the id or name
    that `snapshots ls` shows, or the name of the RBD snapshot. Newer snapshots stay as they are.
    The volume keeps its size.

    It asks twice; without a terminal it needs --yes and --confirm. If it is cut off, the volume
    cannot be attached until the same command, or one with another snapshot, has ended.
    """
    with session.connections(config) as pooled:
        plan = verbs.examine(pooled, ids.parse(volume), snapshot)
        for line in _facts(plan):
            click.echo(line, err=True)
        session.require_consent(
            "this replaces the data of the volume; all that was written to it after the snapshot "
            "is lost, unless a newer snapshot has it",
            yes=yes,
        )
        session.require_name("image", plan.image, confirm)
        verbs.carry_out(pooled, plan)
        click.echo(f"volume {volume} has the content of snapshot {plan.snapshot.name}")


def _facts(plan: Plan) -> Iterator[str]:
    """Yield lines that name the volume and the snapshot, and say how old that is."""
    metadata, snapshot = plan.header.metadata, plan.snapshot
    handle = ids.SnapshotHandle(plan.handle, snapshot.snap_id)
    claim = "/".join(filter(None, (metadata.get(spec.PVC_NAMESPACE), metadata.get(spec.PVC))))
    newer = [each for each in plan.header.user_snapshots() if each.snap_id > snapshot.snap_id]
    yield f"volume:   {plan.handle}"
    yield f"claim:    {claim or 'not known'}"
    yield f"image:    {plan.location}/{plan.image}, {plan.header.size} bytes"
    yield f"snapshot: {handle} ({plan.name or 'not of this driver'}, RBD: {snapshot.name})"
    created = datetime.fromtimestamp(snapshot.created_ns // _NANOSECONDS, UTC)
    yield f"taken:    {created.isoformat()}, {snapshot.size} bytes; newer snapshots: {len(newer)}"
    if earlier := plan.record.rollback:
        yield (
            f"note:     a rollback to {earlier.snapshot} began at {earlier.since} and has not "
            "ended; the volume may hold a mix of old and new data"
        )
