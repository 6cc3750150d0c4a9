"""M1 and M5: CreateVolume, by one caller and by many."""

from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

from bench.lab import FEATURES, MIB, Lab, timed
from bench.metric import Call, Comparison, Goal, Result, alternate
from e2e import volume
from e2e.clusters import commands

_SIZE = 1024 * MIB
_KEY, _VALUE = "floor.volume", "x" * 300  # as long as what the driver writes
_CALLERS = {1: None, 8: None, 16: Goal(least=0.6), 32: Goal(least=0.8), 100: None}


def measure(lab: Lab) -> list[Result]:
    """Compare with librbd in this process, with a connection that is open."""
    with lab.pool() as (pool, ioctx):
        rounds, warmups = lab.rounds(200), lab.rounds(20)
        driver, floor = _driver(lab, pool), _floor(ioctx)
        results: list[Result] = [
            Comparison(
                "M1",
                "CreateVolume",
                "RBD.create, open, one metadata write",
                alternate(driver, floor, rounds, warmups),
                Goal(1.5),
            ),
            Comparison(
                "M1",
                "CreateVolume beside less: no metadata",
                "RBD.create alone",
                alternate(driver, _bare(ioctx), lab.rounds(50), 2),
            ),
            Comparison(
                "M1",
                "CreateVolume beside the command",
                "`rbd create`",
                alternate(driver, _command(lab, pool), lab.rounds(10)),
            ),
        ]
    return results + [_throughput(lab, callers, goal) for callers, goal in _CALLERS.items()]


def _driver(lab: Lab, pool: str) -> Call:
    def create(number: int) -> float:
        parameters = {"pool": pool}
        return timed(
            lambda: volume.create(
                lab.controller, f"driver-{number}", size=_SIZE, parameters=parameters
            )
        )

    create(-1)  # the pool's own objects are made once
    return create


def _create(ioctx: rados.Ioctx, name: str) -> None:
    rbd.RBD().create(ioctx, name, _SIZE, old_format=False, features=FEATURES)


def _floor(ioctx: rados.Ioctx) -> Call:
    def create(name: str) -> None:
        _create(ioctx, name)
        with rbd.Image(ioctx, name) as image:
            image.metadata_set(_KEY, _VALUE)

    return lambda number: timed(lambda: create(f"floor-{number}"))


def _bare(ioctx: rados.Ioctx) -> Call:
    return lambda number: timed(lambda: _create(ioctx, f"bare-{number}"))


def _command(lab: Lab, pool: str) -> Call:
    where = ("--conf", str(lab.cluster.conf), "--keyring", str(lab.cluster.keyring))

    def create(number: int) -> None:
        name = f"{pool}/command-{number}"
        commands.run(["rbd", *where, "create", "--size", f"{_SIZE // MIB}M", name])

    return lambda number: timed(lambda: create(number))


def _throughput(lab: Lab, callers: int, goal: Goal | None) -> Result:
    """Make volumes as fast as that many callers can; a sample is volumes a second."""
    each = max(4, 128 // callers)
    with lab.pool() as (pool, ioctx), ThreadPoolExecutor(callers) as threads:

        def together(create: Call) -> Call:
            def rate(block: int) -> float:
                numbers = [block * 100_000 + n for n in range(callers * each)]
                seconds = timed(lambda: list(threads.map(create, numbers)))
                return len(numbers) / seconds

            return rate

        rounds = alternate(
            together(_driver(lab, pool)), together(_floor(ioctx)), lab.rounds(5), warmups=1
        )
    what, floor = f"CreateVolume by {callers} callers", f"the floor of M1 in {callers} threads"
    return Comparison("M5", what, floor, rounds, goal, "/s")
