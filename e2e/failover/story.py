"""One run: writers at the old node, a fault, the move, writers at the new one, the return.

Each run moves volumes in pairs from the same node in the same state: one by the driver and one by
hand, in turn. The records of both are checked. The old node has to clean up by itself: the
kubelet's calls come only after it has.
"""

import contextlib
import dataclasses
import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
import rados

from e2e import leftovers, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver
from e2e.failover import log
from e2e.failover.by_hand import DURABLE_WRITE, Move
from e2e.failover.node import WRITER, Failing, Fault
from e2e.pool import PoolView
from e2e.volume import MIB, Volume
from rbdcsi.attachments.fences import Fences

_SIZE = 64 * MIB
_ENOUGH = 20  # records that each writer makes durable before the story goes on
_LATE = 3  # writes that each old writer is refused
_SECONDS = 120.0


@dataclass(frozen=True)
class Scene(PoolView):
    """Where the story plays.

    Attributes:
        cluster: the Ceph.
        pool: of the volumes.
        ioctx: of the pool.
        admin: a connection of the cluster's own user.
        controller: of the driver.
        old: the node that fails.
        new: the node that goes on.
        mapper: of both nodes.
        move_by_hand: prepares the move of an image, named POOL/NAME, to the new node.
    """

    cluster: Cluster
    pool: str
    ioctx: rados.Ioctx
    admin: rados.Rados
    controller: Driver
    old: Failing
    new: Failing
    mapper: str
    move_by_hand: Callable[[str], Move]


@dataclass(frozen=True)
class Outcome:
    """One pair of volumes that was moved.

    Attributes:
        fault: that of the old node.
        seconds: from the detach call to the new node's first durable write.
        by_hand: the same by hand.
        acknowledged: how many records the writers reported as durable; all were found.
        refused: how many late writes the old writers reported as refused.
        clean_after: seconds from the old node's return until it held nothing any more.
    """

    fault: Fault
    seconds: float
    by_hand: float
    acknowledged: int
    refused: int
    clean_after: float


@dataclass
class _Moved:
    """A volume in use at the old node, later at the new one; each with a writer of its own."""

    made: Volume
    image: str  # POOL/NAME
    client: str  # the old one
    old_writer: str
    new_writer: str
    at_new: Volume
    target: Path = field(default_factory=Path)  # at the new node


@dataclass(frozen=True)
class _Pair:
    by_driver: _Moved
    by_hand: _Moved
    move: Move

    @property
    def both(self) -> tuple[_Moved, _Moved]:
        return self.by_driver, self.by_hand


def tell(scene: Scene, fault: Fault, pairs: int = 1) -> list[Outcome]:
    """Let the story happen once, and return what was measured, for each pair.

    Args:
        scene: where.
        fault: of the old node.
        pairs: how many pairs of volumes are in use there.

    Raises:
        AssertionError: a durable record is lost, or a late write landed.
        DeadlineExceeded: a late write was not refused, or the old node did not clean up.
    """
    with contextlib.ExitStack() as undo:
        told = [undo.enter_context(_pair(scene)) for _ in range(pairs)]
        moved = [each for pair in told for each in pair.both]
        _wait_for_progress(scene.old, [each.old_writer for each in moved])
        scene.old.fail(fault)
        with _back_at_the_end(scene, fault) as come_back:
            times = [_move(scene, pair, hand_first=n % 2 == 1) for n, pair in enumerate(told)]
            for each in moved:
                _check(scene, each)
                scene.new.start_writer(each.target / "records", each.new_writer)
            _wait_for_progress(scene.new, [each.new_writer for each in moved])
            clean_after = _clean_up(scene, fault, moved, come_back)
        scene.new.end_writers()
        for each in moved:
            _check(scene, each)
        return [
            Outcome(fault, *seconds, *_counts(scene, pair), clean_after)
            for pair, seconds in zip(told, times, strict=True)
        ]


@contextlib.contextmanager
def _pair(scene: Scene) -> Iterator[_Pair]:
    with _in_use(scene) as by_driver, _in_use(scene) as by_hand:
        move = scene.move_by_hand(by_hand.image)
        by_hand.target = move.target
        try:
            yield _Pair(by_driver, by_hand, move)
        finally:
            scene.new.end_writers()
            move.undo()


@contextlib.contextmanager
def _in_use(scene: Scene) -> Iterator[_Moved]:
    """Give a volume that a writer of the old node uses; after the body it is gone everywhere."""
    name = f"failover-{uuid.uuid4().hex[:8]}"
    made = volume.create(scene.controller, name, size=_SIZE, parameters={"mounter": scene.mapper})
    at_new = dataclasses.replace(made)
    try:
        volume.attach(scene.controller, made, scene.old.name)
        _as_kubelet(lambda: volume.stage(scene.old, made))  # krbd may be slow to map
        target = volume.publish(scene.old, made)
        old_writer, new_writer = f"{name}-old", f"{name}-new"
        scene.old.start_writer(target / "records", old_writer)
        (client,) = scene.attachments(made)[scene.old.name].clients
        image = f"{scene.pool}/csi-{name}"
        yield _Moved(made, image, client.address, old_writer, new_writer, at_new)
    finally:
        scene.old.end_writers()
        scene.new.end_writers()
        for node, copy in ((scene.old, made), (scene.new, at_new)):
            _take_down(node, copy)
        volume.detach(scene.controller, made, "")
        volume.delete(scene.controller, made)


def _take_down(node: Failing, made: Volume) -> None:
    """Unpublish and unstage.

    Also a free device may be busy: every process that makes a mount namespace at that moment copies
    mounts.
    """
    _as_kubelet(lambda: volume.unpublish(node, made))
    _as_kubelet(lambda: volume.unstage(node, made))


def _as_kubelet(call: Callable[[], object]) -> None:
    """Make a call, again as long as it is ABORTED."""

    def is_aborted(error: grpc.RpcError) -> bool:
        return cast(grpc.Call, error).code() is grpc.StatusCode.ABORTED

    volume.until_let_through(call, _SECONDS, among=is_aborted)


def _move(scene: Scene, pair: _Pair, *, hand_first: bool) -> tuple[float, float]:
    """Move both volumes, and return the seconds by the driver and by hand."""
    seconds_by_hand = pair.move.make(pair.by_hand.client) if hand_first else 0.0
    seconds = _move_by_driver(scene, pair.by_driver)
    seconds_by_hand = seconds_by_hand or pair.move.make(pair.by_hand.client)
    # The driver notes the fence that was made by hand, and so lifts it.
    volume.detach(scene.controller, pair.by_hand.made, scene.old.name)
    return seconds, seconds_by_hand


def _move_by_driver(scene: Scene, moved: _Moved) -> float:
    begun = time.monotonic()
    volume.detach(scene.controller, moved.made, scene.old.name)
    volume.attach(scene.controller, moved.at_new, scene.new.name)
    volume.stage(scene.new, moved.at_new)
    moved.target = volume.publish(scene.new, moved.at_new)
    scene.new.run(DURABLE_WRITE.format(file=moved.target / "first"))
    return time.monotonic() - begun


def _check(scene: Scene, moved: _Moved) -> None:
    """Read the records at the new node, and compare them with what both writers reported."""
    listed = scene.new.run(f"/usr/bin/python3 -I {WRITER} read {moved.target / 'records'}")
    old = log.reported(scene.old.said(), moved.old_writer)
    new = log.reported(scene.new.said(), moved.new_writer)
    wrong = log.faults(dict(json.loads(listed)), (moved.old_writer, old), (moved.new_writer, new))
    assert not wrong, f"{moved.made.id}:\n{wrong}"
    assert not new.refused, f"{moved.made.id}: the new node was refused slots {new.refused}"


@contextlib.contextmanager
def _back_at_the_end(scene: Scene, fault: Fault) -> Iterator[Callable[[], None]]:
    """Give the verb that lets the old node come back, which happens once, at the latest after."""
    coming = contextlib.ExitStack()
    coming.callback(scene.old.come_back, fault)
    with coming:
        yield coming.close


def _clean_up(
    scene: Scene, fault: Fault, moved: list[_Moved], come_back: Callable[[], None]
) -> float:
    """Let the old node come back, and wait until nothing of it is left; return the seconds.

    Then the kubelet's own calls succeed, and the fences are lifted.
    """
    begun = time.monotonic()
    come_back()
    if fault is not Fault.KILLED:
        for each in moved:
            commands.wait_until(
                functools.partial(_is_refused, scene.old, each.old_writer),
                f"late writes of {each.old_writer} are refused",
                _SECONDS,
            )
    _wait_for_progress(scene.new, [each.new_writer for each in moved])
    scene.old.end_writers()
    commands.wait_until(lambda: not scene.old.held(), f"{scene.old.name} is clean", _SECONDS)
    seconds = time.monotonic() - begun
    for each in moved:
        _take_down(scene.old, each.made)
    clients = {each.client for each in moved}
    commands.wait_until(lambda: not _fenced(scene, clients), "the fences are lifted", _SECONDS)
    return seconds


def _fenced(scene: Scene, clients: set[str]) -> set[str]:
    """Return which clients are on Ceph's blocklist or in a fence's note."""
    notes = Fences(scene.ioctx)  # the pool is the home location
    listed = set(leftovers.blocklisted(scene.admin))
    return {each for each in clients if each in listed or notes.get(each)}


def _is_refused(node: Failing, writer: str) -> bool:
    return len(log.reported(node.said(), writer).refused) >= _LATE


def _wait_for_progress(node: Failing, writers: list[str]) -> None:
    """Return when each writer has made some more records durable."""

    def counts() -> list[int]:
        text = node.said()
        return [len(log.reported(text, writer).durable) for writer in writers]

    enough = [count + _ENOUGH for count in counts()]
    commands.wait_until(
        lambda: all(now >= then for now, then in zip(counts(), enough, strict=True)),
        f"writers at {node.name} make records durable",
        _SECONDS,
    )


def _counts(scene: Scene, pair: _Pair) -> tuple[int, int]:
    """Return how many records of the pair are durable, and how many were refused."""
    old = [log.reported(scene.old.said(), each.old_writer) for each in pair.both]
    new = [log.reported(scene.new.said(), each.new_writer) for each in pair.both]
    durable = sum(len(each.durable) for each in (*old, *new))
    return durable, sum(len(each.refused) for each in old)
