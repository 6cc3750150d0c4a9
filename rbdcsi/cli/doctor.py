"""`rbdcsi doctor`: finds what does not mend itself, and says what mends it."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from rbdcsi.ceph.connections import Connections
from rbdcsi.cli import output, session
from rbdcsi.operator import reading
from rbdcsi.operator.doctor import RULES
from rbdcsi.operator.doctor.findings import Finding, examine, lasting
from rbdcsi.operator.facts import Depth

_SETTLE_SECONDS = 3.0  # an image that a call maps or creates now is explained after that


@click.command()
@session.reads
def doctor(config: Path, json_wanted: bool) -> None:
    """Examine volumes, nodes, fences and rights; exit code 1 if anything is found.

    It changes nothing. If something is found it looks a second time, after three seconds, and
    reports what is still there.
    """
    with session.connections(config) as pooled:
        findings = _findings(pooled)
    if json_wanted:
        output.as_json({"findings": [dataclasses.asdict(each) for each in findings]})
    else:
        _print(findings)
    sys.exit(1 if findings else 0)


def _findings(pooled: Connections) -> list[Finding]:
    first = examine(reading.clusters(pooled, Depth.ALL), RULES)
    if not first:
        return []
    time.sleep(_SETTLE_SECONDS)
    return lasting(first, examine(reading.clusters(pooled, Depth.ALL), RULES))


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.secho(f"{finding.kind}: {finding.object}", bold=True)
        output.paragraph("  wrong:   ", finding.wrong)
        output.paragraph("  hinders: ", finding.hinders)
        output.paragraph("  remedy:  ", finding.remedy)
        for line in finding.commands:
            click.echo(f"    {line}")
        click.echo()
    click.echo(f"findings: {len(findings)}" if findings else "nothing found")
