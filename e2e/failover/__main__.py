"""`python -m e2e.failover`: fail-over many times in every way, with its figures."""

import contextlib
from collections.abc import Callable

import click
from rich.console import Console

from bench.report import environment
from e2e import processes
from e2e.failover import here, machines, report, story
from e2e.failover.story import Outcome, Scene

_SCENES: dict[str, Callable[[], contextlib.AbstractContextManager[Scene]]] = {
    "fuse": here.at_work,
    "krbd": lambda: machines.at_work("krbd"),
    "nbd": lambda: machines.at_work("nbd"),
}
_PAIRS = 4  # of volumes in one story: a node that fails has several


@click.command()
@click.option("--times", type=click.IntRange(1), default=20, help="Moves for each fault, or more.")
@click.option("--mapper", "mappers", type=click.Choice(list(_SCENES)), multiple=True)
@click.option("--publish", is_flag=True, help="Put the figures into docs/reports/failover.md.")
def main(times: int, mappers: tuple[str, ...], publish: bool) -> None:
    """Move volumes away from a node that fails; print the table of each mapper, all by default."""
    processes.adopt()
    console = Console(soft_wrap=True, highlight=False)
    for mapper in mappers or tuple(_SCENES):
        outcomes: list[Outcome] = []
        try:
            _tell(console, mapper, times, outcomes)
        finally:  # also what came before a story that failed
            for line in report.table(outcomes):
                console.print(line, markup=False)
            console.print(f"raw: {report.save(mapper, outcomes)}")
        if publish:
            report.publish(mapper, outcomes, environment("bluestore"))


def _tell(console: Console, mapper: str, times: int, outcomes: list[Outcome]) -> None:
    with _SCENES[mapper]() as scene:
        for _ in range(0, times, _PAIRS):
            for fault in scene.old.faults:
                for outcome in story.tell(scene, fault, min(_PAIRS, times)):
                    console.print(report.line(mapper, outcome))
                    outcomes.append(outcome)


if __name__ == "__main__":
    main()
