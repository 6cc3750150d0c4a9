"""`python -m bench.rounds`: a thousand snapshots, and copies of copies, with the time of each.

It shows that the last round takes as long as the first one, and that no copy ever loses a block:
each is read back whole. The controller flattens chains in the background at the same time.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import click
import rados
import rbd
from rich.console import Console

from bench import lab, report, rounds_picture
from bench.lab import MIB, Lab, timed
from e2e import processes, snapshots, volume
from e2e.clusters import commands
from e2e.volume import Volume
from rbdcsi.model import ids

_SIZE = 2 * MIB  # of volumes; a thousand flattened copies have to fit into the OSD's 10 GiB
_OBJECT = 128 << 10  # of data, as Ceph stores it
_BYTES = 8  # of a number
_DOCUMENT = Path(__file__).parents[1] / "docs/reports/rounds.md"
_GONE_SECONDS = 900

Round = Callable[[int], float]  # does the numbered round, and returns its seconds


class Blocks:
    """The start of each of a volume's objects: what it must hold, and whether it does."""

    def __init__(self, running: Lab, pool: str, ioctx: rados.Ioctx) -> None:
        """Begin with a volume whose objects were never written."""
        self._conf, self._pool, self._ioctx = running.cluster.conf, pool, ioctx
        self._expected = [0] * (_SIZE // _OBJECT)
        self._writer: ProcessPoolExecutor | None = None

    def write(self, made: Volume, number: int) -> None:
        """Write the number into the object whose turn it is.

        librbd ends its process by an assertion if it closes an image just when another client asks
        for the image's lock (docs/explanation/limits.md). So another process writes.
        """
        at = number % len(self._expected)
        arguments = (self._conf, self._pool, ids.parse(made.id).image_id, at * _OBJECT, number)
        while True:
            self._writer = self._writer or ProcessPoolExecutor(1, get_context("spawn"))
            try:
                self._writer.submit(_write, *arguments).result()
                break
            except BrokenProcessPool:
                self._writer = None
        self._expected[at] = number

    def check(self, made: Volume) -> None:
        """End the run if the volume does not hold what was written into its source."""
        image_id = ids.parse(made.id).image_id
        with rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image:
            found = [
                int.from_bytes(image.read(at * _OBJECT, _BYTES), "big")
                for at in range(len(self._expected))
            ]
        if found != self._expected:
            raise SystemExit(f"{made.id} has lost data: {found} instead of {self._expected}")

    def close(self) -> None:
        """End the writing process."""
        if self._writer:
            self._writer.shutdown()


@functools.cache
def _connection(conf: Path) -> rados.Rados:
    connection = rados.Rados(conffile=str(conf))
    connection.connect()
    return connection


def _write(conf: Path, pool: str, image_id: str, offset: int, number: int) -> None:
    with (
        _connection(conf).open_ioctx(pool) as ioctx,
        rbd.Image(ioctx, image_id=image_id) as image,
    ):
        image.write(number.to_bytes(_BYTES, "big"), offset)


@click.command()
@click.option("--rounds", default=1000, show_default=True, help="How many of each kind.")
@click.option("--publish", is_flag=True, help="Put the figures into docs/reports/rounds.md.")
def main(rounds: int, publish: bool) -> None:
    """Measure each round on a Ceph of its own, and draw the times."""
    processes.adopt()
    kinds = {
        "snapshot, volume from it, delete both": restores,
        "copy of the last copy; its source is deleted": moving_chain,
        "copy of the last copy; all are kept": growing_chain,
    }
    with lab.start(1, "memstore") as running:
        times = {name: list(measured(running, kind, rounds)) for name, kind in kinds.items()}
    Console().print("\n".join(rounds_picture.table(times)), soft_wrap=True)
    if publish:
        rounds_picture.publish(times, report.environment("memstore"), _DOCUMENT)


Kind = Callable[[Lab, str, rados.Ioctx], contextlib.AbstractContextManager[Round]]


def measured(running: Lab, kind: Kind, rounds: int) -> Iterator[float]:
    """Yield the seconds of each round; nothing may be left at the end."""
    with running.pool() as (pool, ioctx):
        with kind(running, pool, ioctx) as one:
            for number in range(1, rounds + 1):
                yield one(number)
        commands.wait_until(
            lambda: not list(rbd.RBD().list(ioctx)) and not list(rbd.RBD().trash_list(ioctx)),
            "all images are gone",
            timeout=_GONE_SECONDS,
        )


@contextlib.contextmanager
def restores(running: Lab, pool: str, ioctx: rados.Ioctx) -> Iterator[Round]:
    """Take a snapshot of one volume, make a volume of it, and delete both."""
    controller = running.controller
    source = _create(running, pool, "source")

    def make(number: int) -> tuple[str, Volume]:
        snapshot_id = snapshots.create(controller, f"snapshot-{number}", source.id).snapshot_id
        return snapshot_id, _create(running, pool, f"restored-{number}", snapshot_id)

    def one(number: int) -> float:
        blocks.write(source, number)
        begun = time.perf_counter()
        snapshot_id, restored = make(number)
        seconds = time.perf_counter() - begun
        blocks.check(restored)

        def delete() -> None:
            volume.delete(controller, restored)
            snapshots.delete(controller, snapshot_id)

        return seconds + timed(delete)

    with contextlib.closing(Blocks(running, pool, ioctx)) as blocks:
        yield one
    volume.delete(controller, source)


def moving_chain(
    running: Lab, pool: str, ioctx: rados.Ioctx
) -> contextlib.AbstractContextManager[Round]:
    """Copy the last copy, and delete its source."""
    return _chain(running, pool, ioctx, kept=1)


def growing_chain(
    running: Lab, pool: str, ioctx: rados.Ioctx
) -> contextlib.AbstractContextManager[Round]:
    """Copy the last copy, and delete all at the end."""
    return _chain(running, pool, ioctx, kept=None)


@contextlib.contextmanager
def _chain(running: Lab, pool: str, ioctx: rados.Ioctx, kept: int | None) -> Iterator[Round]:
    controller = running.controller
    chain = [_create(running, pool, "copy-0")]

    def one(number: int) -> float:
        blocks.write(chain[-1], number)

        def copy() -> None:
            chain.append(_create(running, pool, f"copy-{number}", chain[-1].id))

        def delete() -> None:
            while kept is not None and len(chain) > kept:
                volume.delete(controller, chain.pop(0))

        # A chain that is too long is refused until it is cut.
        seconds = timed(lambda: volume.until_let_through(copy))
        blocks.check(chain[-1])
        return seconds + timed(delete)

    with contextlib.closing(Blocks(running, pool, ioctx)) as blocks:
        yield one
    for each in chain:
        volume.delete(controller, each)


def _create(running: Lab, pool: str, name: str, source: str = "") -> Volume:
    return volume.create(
        running.controller,
        name,
        size=_SIZE,
        source=source,
        capability=volume.raw(),
        parameters={"pool": pool, "objectSize": str(_OBJECT)},
    )


if __name__ == "__main__":
    main()
