"""M9: fio on a published block volume, beside the same device mapped by hand."""

import json
from pathlib import Path

from bench import by_hand
from bench.lab import MIB, Lab
from bench.metric import Comparison, Goal, Result, alternate
from e2e import volume
from e2e.clusters import commands

_SIZE = 256 * MIB
_SECONDS = 3
_PATTERNS = {
    "randread": ("--rw=randread", "--bs=4k", "--iodepth=16"),
    "randwrite": ("--rw=randwrite", "--bs=4k", "--iodepth=16"),
    "write": ("--rw=write", "--bs=1M", "--iodepth=4"),
}


def measure(lab: Lab) -> list[Result]:
    """Show that nothing is in the way; a sample is operations a second."""
    node = lab.nodes[0]
    with lab.pool() as (pool, _ioctx):
        made = volume.create(
            lab.controller, "data", size=_SIZE, capability=volume.raw(), parameters={"pool": pool}
        )
        volume.attach(lab.controller, made, node.name)
        volume.stage(node, made)
        published, hand = volume.publish(node, made), by_hand.prepare(lab, pool, "hand", _SIZE)
        hand.create()
        hand.map()
        try:
            for device in (published, Path(hand.device)):  # reads are of data then
                _run_fio(device, "--rw=write", "--bs=1M", "--end_fsync=1")
            results = [_compare(lab, name, published, Path(hand.device)) for name in _PATTERNS]
        finally:
            hand.unmap()
            volume.unpublish(node, made)
            volume.unstage(node, made)
            volume.detach(lab.controller, made, node.name)
    return results


def _compare(lab: Lab, name: str, published: Path, device: Path) -> Result:
    rounds = alternate(
        lambda _: _fio(published, name), lambda _: _fio(device, name), lab.rounds(8), warmups=1
    )
    floor, goal = "an image mapped by hand", Goal(1.03, least=0.97)
    return Comparison("M9", f"fio {name}", floor, rounds, goal, "/s")


def _fio(device: Path, name: str) -> float:
    answer = _run_fio(device, "--time_based", f"--runtime={_SECONDS}", *_PATTERNS[name])
    job = json.loads(answer)["jobs"][0]
    return float(job["read"]["iops"] + job["write"]["iops"])


def _run_fio(device: Path, *more: str) -> str:
    return commands.run(
        ["fio", "--name=bench", f"--filename={device}", "--ioengine=libaio", "--direct=1",
         f"--size={_SIZE}", "--output-format=json", *more]
    )  # fmt: skip
