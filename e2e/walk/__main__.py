"""`python -m e2e.walk SECONDS`: a walk on a Ceph of its own; its logs are kept."""

import random
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from e2e import driver, processes, sweep
from e2e.clusters.local import LocalCluster
from e2e.walk.walk import Told, walk

_POOL = "walk"
_LOGS = Path(__file__).parents[2] / "build/walk"


@click.command()
@click.argument("seconds", type=float)
@click.option("--seed", type=int, help="The choices of an earlier walk; default: new ones.")
def main(seconds: float, seed: int | None) -> None:
    """Walk for SECONDS, and fail if anything was wrong."""
    processes.adopt()
    seed = random.randrange(1_000_000) if seed is None else seed  # noqa: S311
    console = Console(soft_wrap=True)
    console.print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="walk-") as name, sweep.at_end(Path(name)):
        try:
            told = _walked(Path(name), seed, seconds)
        finally:
            _keep_logs(Path(name), _LOGS / str(seed))
        show(console, told)
        if told.troubles:
            raise click.ClickException(f"seed {seed}: logs are in {_LOGS / str(seed)}")


def show(console: Console, told: Told) -> None:
    """Print how a walk ended."""
    for what, count in sorted(told.outcomes.items()):
        console.print(f"{count:7} {what}", highlight=False)
    console.print(f"{told.deaths:7} deaths", highlight=False)
    for trouble in told.troubles:
        console.print(f"TROUBLE {trouble}", highlight=False, markup=False)


def _walked(directory: Path, seed: int, seconds: float) -> Told:
    with LocalCluster() as cluster, cluster.connection() as admin:
        cluster.create_pool(_POOL)
        with driver.installed(cluster, directory, _POOL) as installation:
            told = walk(cluster, installation, _POOL, admin, seed=seed, seconds=seconds)
    return told


def _keep_logs(directory: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for log in (*directory.glob("*.log"), *directory.glob("*/driver.log")):
        shutil.copy(log, kept / f"{log.parent.name}-{log.name}")


if __name__ == "__main__":
    main()
