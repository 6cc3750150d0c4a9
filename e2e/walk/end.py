"""The end of a walk: everything is taken down as Kubernetes would, and nothing may be left."""

import functools
import time
from collections.abc import Callable

from e2e import errors, leftovers, volume
from e2e.clusters import commands
from e2e.volume import Volume
from e2e.walk.calls import SIZE, Answer
from e2e.walk.world import Reached, World

_SECONDS = 120.0  # for a call to succeed, and for everything to go
_PAUSE = 0.2


def take_down(world: World) -> None:
    """Unpublish, unstage and detach every volume everywhere, and delete it.

    A CreateVolume whose answer was lost is repeated first, as Kubernetes does.
    """
    controller = world.controllers[0]
    for name in world.names:
        create = functools.partial(volume.create, controller, name, size=SIZE)
        if made := _until_done(world, f"create {name}", create):
            world.created(name, made)
    for name in world.names:
        for made in world.volumes(name):
            for node in world.nodes:
                _take_down_at(world, made, node)
            detach = functools.partial(volume.detach, controller, made, "")
            _until_done(world, f"detach {made.id}", detach)
            delete = functools.partial(volume.delete, controller, made)
            _until_done(world, f"delete {made.id}", delete)


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


def _until_done(world: World, what: str, call: Callable[[], Answer]) -> Answer | None:
    """Repeat the call until it succeeds; it is trouble if it does not."""
    ends_at = time.monotonic() + _SECONDS
    while not (answers := world.attempt(what, lambda: [call()])):
        if time.monotonic() > ends_at:
            world.trouble(f"{what} did not succeed within {_SECONDS:.0f} s after the walk")
            return None
        time.sleep(_PAUSE)
    return answers[0]
