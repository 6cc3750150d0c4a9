"""M6: from a snapshot to a mounted volume, which a workload reads."""

from pathlib import Path

from bench import by_hand
from bench.lab import MIB, Lab, timed
from bench.metric import Comparison, Goal, Result, alternate
from e2e import snapshots, volume

_SIZE = 128 * MIB
_FILE, _FILL = "file", 16 * MIB


def measure(lab: Lab) -> list[Result]:
    """Compare with `rbd clone`, map, mount and bind, as a person would type them."""
    with lab.pool() as (pool, _ioctx):
        source = volume.create(lab.controller, "source", size=_SIZE, parameters={"pool": pool})
        _fill(lab, source)
        taken = snapshots.create(
            lab.controller, "taken", source.id, parameters={"snapshotNamePrefix": "s-"}
        )
        image = source.context["imageName"]

        def driver(number: int) -> float:
            made = []
            seconds = timed(lambda: made.append(_restore(lab, pool, taken.snapshot_id, number)))
            _take_down(lab, made[0])
            return seconds

        def floor(number: int) -> float:
            hand = by_hand.prepare(lab, pool, f"restored-by-hand-{number}", _SIZE)

            def restore() -> None:
                hand.clone(image, "s-taken")
                hand.map()
                _read(hand.mount())

            seconds = timed(restore)
            hand.unmount()
            hand.unmap()
            hand.remove()
            return seconds

        rounds = alternate(driver, floor, lab.rounds(15), 1)
    what = "create from a snapshot, attach, stage, publish, read"
    return [Comparison("M6", what, "the steps by hand", rounds, Goal(1.2))]


def _fill(lab: Lab, source: volume.Volume) -> None:
    node = lab.nodes[0]
    volume.attach(lab.controller, source, node.name)
    volume.stage(node, source)
    (volume.publish(node, source) / _FILE).write_bytes(b"x" * _FILL)
    _unmount(lab, source)


def _restore(lab: Lab, pool: str, snapshot_id: str, number: int) -> volume.Volume:
    node = lab.nodes[0]
    made = volume.create(
        lab.controller,
        f"driver-{number}",
        size=_SIZE,
        parameters={"pool": pool},
        source=snapshot_id,
    )
    volume.attach(lab.controller, made, node.name)
    volume.stage(node, made)
    _read(volume.publish(node, made))
    return made


def _read(target: Path) -> None:
    assert len((target / _FILE).read_bytes()) == _FILL


def _take_down(lab: Lab, made: volume.Volume) -> None:
    _unmount(lab, made)
    volume.delete(lab.controller, made)


def _unmount(lab: Lab, made: volume.Volume) -> None:
    node = lab.nodes[0]
    volume.unpublish(node, made)
    volume.unstage(node, made)
    volume.detach(lab.controller, made, node.name)
