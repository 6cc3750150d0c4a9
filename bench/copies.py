"""M6: snapshots, copies and growth. The monitors' round takes 0.05 s here, by default up to 1 s."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

from bench.lab import FEATURES, MIB, Lab, timed
from bench.metric import Call, Comparison, Goal, Result, alternate
from bench.samples import Round
from e2e import snapshots, volume

_SIZE = 1024 * MIB
_FILL = 16 * MIB
_CALLERS = 16
_DEFAULT_ROUND_SECONDS = 1.0
_SOURCE = "floor-source"
_SNAPSHOT = "floor-snapshot"


def measure(lab: Lab) -> list[Result]:
    """Compare with librbd in this process, with a connection that is open."""
    lab.admin.conf_set("rbd_default_clone_format", "2")
    with lab.pool() as (pool, ioctx):
        source = _sources(lab, pool, ioctx)
        return [
            *_of_snapshots(lab, source, ioctx),
            *_of_copies(lab, pool, source, ioctx),
            _of_deletion(lab, pool, ioctx),
            _of_growth(lab, pool, ioctx),
            *_together(lab, source, ioctx),
        ]


def _sources(lab: Lab, pool: str, ioctx: rados.Ioctx) -> volume.Volume:
    """Make a volume of the driver and an image of the floor, with the same data in them."""
    made = volume.create(lab.controller, "source", size=_SIZE, parameters={"pool": pool})
    _create(ioctx, _SOURCE)
    for image in (made.context["imageName"], _SOURCE):
        with rbd.Image(ioctx, image) as opened:
            opened.write(b"x" * _FILL, 0)
    return made


def _of_snapshots(lab: Lab, source: volume.Volume, ioctx: rados.Ioctx) -> list[Result]:
    """CreateSnapshot and DeleteSnapshot; each call's snapshot is gone before the next one."""

    def create(number: int) -> float:
        taken = []
        seconds = timed(lambda: taken.append(_snapshot(lab, source, f"create-{number}")))
        snapshots.delete(lab.controller, taken[0])
        return seconds

    def delete(number: int) -> float:
        taken = _snapshot(lab, source, f"delete-{number}")
        return timed(lambda: snapshots.delete(lab.controller, taken))

    def create_floor(number: int) -> float:
        seconds = timed(lambda: _take(ioctx, f"create-{number}"))
        _drop(ioctx, f"create-{number}")
        return seconds

    def delete_floor(number: int) -> float:
        _take(ioctx, f"delete-{number}")
        return timed(lambda: _drop(ioctx, f"delete-{number}"))

    rounds = lab.rounds(30)
    return [
        Comparison(
            "M6",
            "CreateSnapshot",
            "open, create_snap",
            alternate(create, create_floor, rounds, 2),
            Goal(1.2),
        ),
        Comparison(
            "M6",
            "DeleteSnapshot",
            "open, remove_snap",
            alternate(delete, delete_floor, rounds, 2),
            Goal(1.2),
        ),
    ]


def _of_copies(lab: Lab, pool: str, source: volume.Volume, ioctx: rados.Ioctx) -> list[Result]:
    """CreateVolume from a snapshot and from a volume; the copies go with the pool."""
    taken, bindings = _snapshot(lab, source, "to-be-copied"), rbd.RBD()
    _take(ioctx, _SNAPSHOT)

    def copying(name: str, content: str) -> Call:
        return lambda number: timed(
            lambda: volume.create(
                lab.controller,
                f"{name}-{number}",
                size=_SIZE,
                parameters={"pool": pool},
                source=content,
            )
        )

    def clone(name: str, snapshot: str) -> None:
        bindings.clone(ioctx, _SOURCE, snapshot, ioctx, name, features=FEATURES)

    def whole(number: int) -> None:
        name = f"floor-copy-{number}"
        _take(ioctx, name)
        clone(name, name)
        _drop(ioctx, name)

    from_snapshot = alternate(
        copying("restored", taken),
        lambda number: timed(lambda: clone(f"floor-restored-{number}", _SNAPSHOT)),
        lab.rounds(50),
        5,
    )
    from_volume = alternate(
        copying("copied", source.id),
        lambda number: timed(lambda: whole(number)),
        lab.rounds(30),
        2,
    )
    return [
        Comparison("M6", "CreateVolume from a snapshot", "clone v2", from_snapshot, Goal(1.5)),
        Comparison(
            "M6",
            "CreateVolume from a volume",
            "create_snap, clone v2, remove_snap",
            from_volume,
            Goal(1.5),
        ),
    ]


def _of_deletion(lab: Lab, pool: str, ioctx: rados.Ioctx) -> Result:
    """DeleteVolume of a volume that has a snapshot."""

    def delete(number: int) -> float:
        made = volume.create(
            lab.controller, f"dependant-{number}", size=_SIZE, parameters={"pool": pool}
        )
        _snapshot(lab, made, f"of-dependant-{number}")
        return timed(lambda: volume.delete(lab.controller, made))

    def floor(number: int) -> float:
        name = f"floor-dependant-{number}"
        _create(ioctx, name)
        with rbd.Image(ioctx, name) as image:
            image.create_snap(_SNAPSHOT)
        return timed(lambda: rbd.RBD().trash_move(ioctx, name, 0))

    rounds = alternate(delete, floor, lab.rounds(30), 2)
    return Comparison(
        "M6", "DeleteVolume, of one with a snapshot", "move to the trash", rounds, Goal(1.5)
    )


def _of_growth(lab: Lab, pool: str, ioctx: rados.Ioctx) -> Result:
    made = volume.create(lab.controller, "growing", size=64 * MIB, parameters={"pool": pool})
    bindings = rbd.RBD()
    bindings.create(ioctx, "floor-growing", 64 * MIB, old_format=False, features=FEATURES)

    def grow(number: int) -> float:
        size = (64 + 4 * (number + 1)) * MIB
        return timed(lambda: volume.expand(lab.controller, made, size))

    def resize(number: int) -> None:
        with rbd.Image(ioctx, "floor-growing") as image:
            image.resize((64 + 4 * (number + 1)) * MIB)

    rounds = alternate(grow, lambda number: timed(lambda: resize(number)), lab.rounds(50), 5)
    return Comparison("M6", "ControllerExpandVolume", "open, resize", rounds, Goal(1.5))


def _together(lab: Lab, source: volume.Volume, ioctx: rados.Ioctx) -> list[Result]:
    """Take snapshots of 16 volumes as fast as 16 callers can; a sample is snapshots a second.

    With the monitors' short round, processor time decides. With that of Ceph's defaults, it is in
    how many rounds the calls reach the monitors.
    """
    pool = source.context["pool"]
    made = [
        volume.create(lab.controller, f"at-once-{n}", size=_SIZE, parameters={"pool": pool})
        for n in range(_CALLERS)
    ]
    names = [f"floor-at-once-{n}" for n in range(_CALLERS)]
    for name in names:
        _create(ioctx, name)
    with ThreadPoolExecutor(_CALLERS) as threads:

        def rate(call: Callable[[int], object]) -> float:
            return _CALLERS / timed(lambda: list(threads.map(call, range(_CALLERS))))

        def rounds(of: str, most: int) -> list[Round]:
            return alternate(
                lambda block: rate(lambda n: _snapshot(lab, made[n], f"{of}-{block}-{n}")),
                lambda block: rate(lambda n: _take(ioctx, f"{of}-{block}", names[n])),
                lab.rounds(most),
                1,
            )

        short = rounds("short", 10)
        with _monitors_rounds(lab, _DEFAULT_ROUND_SECONDS):
            default = rounds("default", 6)
    what, floor = f"CreateSnapshot by {_CALLERS} callers", f"the floor in {_CALLERS} threads"
    usual = f"{what}, the monitors' round at Ceph's default of 1 s"
    return [
        Comparison("M6", what, floor, short, Goal(least=0.7), "/s"),
        Comparison("M6", usual, floor, default, Goal(least=0.7), "/s"),
    ]


@contextlib.contextmanager
def _monitors_rounds(lab: Lab, seconds: float) -> Iterator[None]:
    """Let the monitors propose changes so many seconds after the last ones, during the body."""
    option = "paxos_propose_interval"
    before = lab.cluster.ceph("tell", "mon.a", "config", "get", option)[option]
    lab.cluster.ceph("tell", "mon.a", "config", "set", option, str(seconds))
    try:
        yield
    finally:
        lab.cluster.ceph("tell", "mon.a", "config", "set", option, before)


def _snapshot(lab: Lab, source: volume.Volume, name: str) -> str:
    return snapshots.create(lab.controller, name, source.id).snapshot_id


def _create(ioctx: rados.Ioctx, name: str) -> None:
    rbd.RBD().create(ioctx, name, _SIZE, old_format=False, features=FEATURES)


def _take(ioctx: rados.Ioctx, snapshot: str, image: str = _SOURCE) -> None:
    with rbd.Image(ioctx, image) as opened:
        opened.create_snap(snapshot)


def _drop(ioctx: rados.Ioctx, snapshot: str) -> None:
    with rbd.Image(ioctx, _SOURCE) as opened:
        opened.remove_snap(snapshot)
