"""M2 and M3: from nothing to the first durable byte, and back to nothing."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import rados

from bench import by_hand
from bench.lab import MIB, Lab, data_objects
from bench.metric import Comparison, Figure, Goal, Result
from bench.samples import Round
from e2e import volume
from e2e.clusters import commands
from e2e.driver import Driver

_SIZE = 128 * MIB
_FILL = 64 * MIB  # an empty image would be deleted for nothing

_now = time.perf_counter

_MOUNT_PATH_BY_FUSE = Goal(1.35)  # each of its reads passes user space twice
_PARTS = {
    "first byte": ("M2", "create, attach, stage, publish, 4 KiB and fsync", Goal(1.15)),
    "mount path": ("M2", "stage and publish, of that", Goal(1.2)),
    "unmount path": ("M3", "unpublish and unstage", Goal(1.2)),
    "teardown": ("M3", "unpublish, unstage, detach, delete", Goal(1.2)),
}


@dataclass(frozen=True)
class _Times:
    """Seconds of one journey, by part, and CPU seconds of everything that worked for it."""

    parts: dict[str, float]
    cpu: float


def measure(lab: Lab) -> list[Result]:
    """Compare with the same steps by hand: the same tools, options, filesystem and flushes."""
    rounds = lab.rounds(15)
    with lab.pool() as (pool, ioctx):
        journeys = []
        for number in range(0, 2 * (rounds + 1), 2):
            one, two = _by_driver(lab, pool, ioctx, number), _by_hand(lab, pool, number)
            three, four = _by_driver(lab, pool, ioctx, number + 1), _by_hand(lab, pool, number + 1)
            journeys.append((one, two, three, four))
    parts = dict(_PARTS)
    if lab.mapper == "fuse":
        parts["mount path"] = (*parts["mount path"][:2], _MOUNT_PATH_BY_FUSE)
    results: list[Result] = [
        Comparison(metric, what, "the steps by hand", _rounds(journeys[1:], part), goal)
        for part, (metric, what, goal) in parts.items()
    ]
    ours = sum(one.cpu + three.cpu for one, _, three, _ in journeys)
    theirs = sum(two.cpu + four.cpu for _, two, _, four in journeys)
    what = "CPU of a life cycle, beside that of the tools by hand"
    return [*results, Figure("M10", what, ours / theirs, "x", Goal(1))]


def _rounds(journeys: list[tuple[_Times, _Times, _Times, _Times]], part: str) -> list[Round]:
    return [
        Round((a.parts[part], c.parts[part]), (b.parts[part], d.parts[part]))
        for a, b, c, d in journeys
    ]


def _by_driver(lab: Lab, pool: str, ioctx: rados.Ioctx, number: int) -> _Times:
    controller, node = lab.controller, lab.nodes[0]
    before, stamps = _cpu_of(controller) + _cpu_of(node), [_now()]
    made = volume.create(controller, f"driver-{number}", size=_SIZE, parameters={"pool": pool})
    volume.attach(controller, made, node.name)
    stamps.append(_now())
    volume.stage(node, made)
    target = volume.publish(node, made)
    _write_timed(target, stamps)
    volume.unpublish(node, made)
    volume.unstage(node, made)
    stamps.append(_now())
    volume.detach(controller, made, node.name)
    volume.delete(controller, made)
    stamps.append(_now())
    # what the driver does in the background must not slow the floor's turn
    commands.wait_until(lambda: not data_objects(ioctx), "the data is gone")
    return _Times(_parts(stamps), _cpu_of(controller) + _cpu_of(node) - before)


def _by_hand(lab: Lab, pool: str, number: int) -> _Times:
    hand = by_hand.prepare(lab, pool, f"hand-{number}", _SIZE)
    before, stamps = _cpu_of_children(), [_now()]
    hand.create()
    stamps.append(_now())
    hand.map()
    hand.mkfs()
    target = hand.mount()
    _write_timed(target, stamps)
    hand.unmount()
    hand.unmap()
    stamps.append(_now())
    hand.remove()
    stamps.append(_now())
    return _Times(_parts(stamps), _cpu_of_children() - before)


def _write_timed(target: Path, stamps: list[float]) -> None:
    """Note when it is mounted, when the first byte is durable, and when the fill is written."""
    stamps.append(_now())
    _write(target / "first", 4096)
    stamps.append(_now())
    _write(target / "fill", _FILL)
    stamps.append(_now())


def _parts(stamps: list[float]) -> dict[str, float]:
    start, begun, mounted, written, filled, unmounted, ended = stamps
    return {
        "first byte": written - start,
        "mount path": mounted - begun,
        "unmount path": unmounted - filled,
        "teardown": ended - filled,
    }


def _write(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())


def _cpu_of(process: Driver) -> float:
    """Return CPU seconds of the process and of its children that have ended (proc(5), stat)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
