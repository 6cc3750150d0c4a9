"""`python -m bench`: measure, print the table, keep the raw samples in build/bench."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from bench import (
    attach,
    changed_blocks,
    copies,
    create,
    data_path,
    delete,
    journey,
    lab,
    listing,
    machine,
    neighbours,
    report,
    restore,
    start,
)
from bench.metric import Result
from e2e import processes

_QUICK = 0.05
_DOCUMENT = Path(__file__).parents[1] / "docs/reports/benchmarks.md"

_FAMILIES: dict[str, Callable[[lab.Lab], list[Result]]] = {
    "start": start.measure,
    "create": create.measure,
    "attach": attach.measure,
    "journey": journey.measure,
    "delete": delete.measure,
    "copies": copies.measure,
    "restore": restore.measure,
    "listing": listing.measure,
    "neighbours": neighbours.measure,
    "data-path": data_path.measure,
    "changed-blocks": changed_blocks.measure,
}


@click.command()
@click.option("--only", type=click.Choice(list(_FAMILIES)), multiple=True, help="Measure these.")
@click.option("--quick", is_flag=True, help="Few rounds, to see that it works.")
@click.option(
    "--store",
    type=click.Choice(get_args(lab.Store)),
    default="bluestore",
    help="Where the OSD keeps data; memstore takes the disk's noise away.",
)
@click.option("--publish", is_flag=True, help="Put the figures into docs/reports/benchmarks.md.")
@click.option(
    "--machine", "in_machine", is_flag=True, help="Journey and data path with krbd, in a machine."
)
def main(
    only: tuple[str, ...], quick: bool, store: lab.Store, publish: bool, in_machine: bool
) -> None:
    """Measure the driver beside the floor, in one run, on a Ceph of its own."""
    if only and in_machine:
        raise click.UsageError("--machine has its own families: leave --only out")
    processes.adopt()
    scale, facts = _QUICK if quick else 1, report.environment(store)
    if in_machine:
        kind, (results, inside) = "-krbd", machine.measure(scale, store)
        facts |= inside
        report.show(results)
    else:
        kind, results = "", _measure_here(only or tuple(_FAMILIES), scale, store)
    Console().print(f"raw samples: {report.save(results, facts, kind)}")
    if publish:
        report.publish(results, facts, kind, _DOCUMENT)


def _measure_here(names: tuple[str, ...], scale: float, store: lab.Store) -> list[Result]:
    console, results = Console(), []
    with lab.start(scale, store) as running:
        for name in names:
            with console.status(f"{name} ..."):
                found = _FAMILIES[name](running)
            report.show(found)
            results += found
    return results


if __name__ == "__main__":
    main()
