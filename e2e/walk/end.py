"""The end of a walk: everything is taken down as Kubernetes would, and nothing may be left."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import grpc

from e2e import errors, leftovers, snapshots, volume
from e2e.clusters import commands
from e2e.volume import Volume
from e2e.walk.calls import SIZE, Answer, copying, taking
from e2e.walk.contents import Taken
from e2e.walk.copies import Snapshot
from e2e.walk.world import Reached, World
from rbdcsi.api import csi_pb2

_SECONDS = 120.0  # for a call to succeed, and for everything to go
_CREATION_SECONDS = 400.0  # one that was cut off inside librbd is begun again after 300
_PAUSE = 0.2
_AT_ONCE = 16


def take_down(world: World) -> None:
    """Unpublish, unstage and detach every volume everywhere, and delete it.

    A call whose answer was lost is repeated, as Kubernetes does: deletions before CreateVolume of
    the same name, which they would keep waiting. One half of the snapshots is deleted before the
    volumes, the other half after them.
    """
    controller = world.controllers[0]
    _repeat_unanswered(world, controller)
    taken = world.copies.snapshots
    _delete_snapshots(world, controller, taken[::2])
    _delete_volumes(world, controller)
    for name in world.names:
        create = functools.partial(volume.create, controller, name, size=SIZE)
        if made := _until_done(world, f"create {name}", create, _CREATION_SECONDS):
            world.created(name, made)
    _delete_volumes(world, controller)
    _delete_snapshots(world, controller, taken[1::2])


def _delete_volumes(world: World, controller: Reached) -> None:
    for name in (*world.names, *(asked.name for asked in world.copies.copies)):
        for made in world.volumes(name):
            for node in world.nodes:
                _take_down_at(world, made, node)
            detach = functools.partial(volume.detach, controller, made, "")
            _until_done(world, f"detach {made.id}", detach)
            delete = functools.partial(volume.delete, controller, made)
            _until_done(world, f"delete {made.id}", delete)


def _repeat_unanswered(world: World, controller: Reached) -> None:
    for asked in world.copies.unanswered_snapshots:
        take = taking(controller, asked)
        taken = _until_done(world, f"snapshot {asked.source} {asked.name}", _or_gone(take))
        if isinstance(taken, csi_pb2.Snapshot):
            world.copies.made(asked, taken.snapshot_id, Taken())
    for asked in world.copies.copies:
        if not world.volumes(asked.name):
            call = _or_gone(copying(controller, asked))
            copy = _until_done(world, f"copy {asked.source} {asked.name}", call)
            if isinstance(copy, Volume):
                world.created(asked.name, copy)


def _or_gone(call: Callable[[], Answer]) -> Callable[[], Answer | bool]:
    """Return the call, which is done, too, if its source is gone."""

    def made() -> Answer | bool:
        try:
            return call()
        except grpc.RpcError as error:
            if cast(grpc.Call, error).code() is grpc.StatusCode.NOT_FOUND:
                return True
            raise

    return made


def _delete_snapshots(world: World, controller: Reached, taken: Sequence[Snapshot]) -> None:
    """Delete snapshots side by side: Ceph's monitors do it in rounds of a second."""

    def delete(snapshot: Snapshot) -> None:
        call = functools.partial(snapshots.delete, controller, snapshot.id)
        _until_done(world, f"delete-snapshot {snapshot.id}", call)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(delete, taken))


def wait_until_clean(world: World, left: Callable[[], str]) -> None:
    """Wait until nothing is left at any node, nor, as `left` says, in Ceph; else it is trouble."""

    def everything() -> list[str]:
        nodes = (line for node in world.nodes for line in leftovers.at_node(node.directory))
        return [*nodes, *left().splitlines()]

    try:
        commands.wait_until(lambda: not everything(), "nothing is left", _SECONDS)
    except errors.DeadlineExceeded:
        for line in everything():
            world.trouble(f"left behind: {line}")


def _take_down_at(world: World, made: Volume, node: Reached) -> None:
    for target in (node.kubelet / "pods").glob(f"*/{made.target(node).name}"):
        pod = target.parent.name
        unpublish = functools.partial(volume.unpublish, node, made, pod=pod)
        _until_done(world, f"unpublish {made.id} {node.name} {pod}", unpublish)
    unstage = functools.partial(volume.unstage, node, made)
    _until_done(world, f"unstage {made.id} {node.name}", unstage)


def _until_done(
    world: World, what: str, call: Callable[[], Answer], seconds: float = _SECONDS
) -> Answer | None:
    """Repeat the call until it succeeds; it is trouble if it does not."""
    ends_at = time.monotonic() + seconds
    while not (answers := world.attempt(what, lambda: [call()])):
        if time.monotonic() > ends_at:
            world.trouble(f"{what} did not succeed within {seconds:.0f} s after the walk")
            return None
        time.sleep(_PAUSE)
    return answers[0]
