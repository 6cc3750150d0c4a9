"""DeleteVolume: the answer, and the data that goes in the background."""

import time

import rados
import rbd

from bench.lab import FEATURES, MIB, Lab, data_objects, timed
from bench.metric import Call, Comparison, Figure, Goal, Result, alternate
from e2e import volume
from e2e.clusters import commands

_SIZE = 64 * MIB
_FILL = 16 * MIB
_FILLED = 8  # volumes


def measure(lab: Lab) -> list[Result]:
    """Compare with librbd's move to the trash, in this process."""
    with lab.pool() as (pool, ioctx):
        rounds = alternate(_driver(lab, pool), _floor(ioctx), lab.rounds(60), lab.rounds(5))
        seconds = _data_comes_back(lab, pool, ioctx)
    what = f"{_FILLED * _FILL // MIB} MiB of data gone after the last answer"
    return [
        Comparison("M3", "DeleteVolume", "move to the trash", rounds, Goal(1.5)),
        Figure("M3", what, seconds, "s"),
    ]


def _driver(lab: Lab, pool: str) -> Call:
    def delete(number: int) -> float:
        made = volume.create(
            lab.controller, f"driver-{number}", size=_SIZE, parameters={"pool": pool}
        )
        return timed(lambda: volume.delete(lab.controller, made))

    return delete


def _floor(ioctx: rados.Ioctx) -> Call:
    bindings = rbd.RBD()

    def delete(number: int) -> float:
        name = f"floor-{number}"
        bindings.create(ioctx, name, _SIZE, old_format=False, features=FEATURES)
        return timed(lambda: bindings.trash_move(ioctx, name, 0))

    return delete


def _data_comes_back(lab: Lab, pool: str, ioctx: rados.Ioctx) -> float:
    """Return the seconds from the last answer until no data object is left; fails if some stay."""
    for trashed in rbd.RBD().trash_list(ioctx):
        if trashed["name"].startswith("floor-"):
            rbd.RBD().trash_remove(ioctx, trashed["id"], force=True)
    made = [
        volume.create(lab.controller, f"filled-{n}", size=_SIZE, parameters={"pool": pool})
        for n in range(_FILLED)
    ]
    for each in made:
        with rbd.Image(ioctx, each.context["imageName"]) as image:
            image.write(b"x" * _FILL, 0)
    for each in made:
        volume.delete(lab.controller, each)
    begun = time.perf_counter()
    commands.wait_until(lambda: not data_objects(ioctx), "the data is gone")
    return time.perf_counter() - begun
