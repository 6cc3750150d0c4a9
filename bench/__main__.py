"""`python -m bench`: measure, print the table, keep the raw samples in build/bench."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from bench import attach, create, data_path, delete, journey, lab, listing, report
from bench.metric import Result
from e2e import orphans

_QUICK = 0.05
_DOCUMENT = Path(__file__).parents[1] / "docs/benchmarks.md"

_FAMILIES: dict[str, Callable[[lab.Lab], list[Result]]] = {
    "create": create.measure,
    "attach": attach.measure,
    "journey": journey.measure,
    "delete": delete.measure,
    "listing": listing.measure,
    "data-path": data_path.measure,
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
@click.option("--publish", is_flag=True, help="Put the figures into docs/benchmarks.md.")
def main(only: tuple[str, ...], quick: bool, store: lab.Store, publish: bool) -> None:
    """Measure the driver beside the floor, in one run, on a Ceph of its own."""
    console, results = Console(), []
    orphans.adopt()
    with lab.start(_QUICK if quick else 1, store) as running:
        for name in only or _FAMILIES:
            with console.status(f"{name} ..."):
                results += _FAMILIES[name](running)
            console.print(f"{name}: done", style="dim")
    report.show(results)
    console.print(f"raw samples: {report.save(results, store)}")
    if publish:
        report.publish(results, store, _DOCUMENT)


if __name__ == "__main__":
    main()
