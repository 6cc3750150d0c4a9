"""The whole walk: drivers, callers, deaths, the end."""

import contextlib
import json
import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import rados
import structlog

from e2e import errors, leftovers
from e2e.clusters import Cluster, commands
from e2e.driver import CLUSTER_ID, Driver, Installation
from e2e.pool import wait_until_registered
from e2e.walk import end, freezes
from e2e.walk.calls import Caller
from e2e.walk.copies import Copies
from e2e.walk.deaths import Deaths
from e2e.walk.rollbacks import Rollbacks
from e2e.walk.world import Reached, World
from rbdcsi.ceph import blocklist, connections
from rbdcsi.config import clusters_file
from rbdcsi.volumes.clone_notes import CloneNotes
from rbdcsi.volumes.clone_upkeep import CloneUpkeep

_CALLERS = 32
_NAMES = tuple(f"walk-{letter}" for letter in "abcdefghij")  # few, so that callers meet
_SNAPSHOTS, _COPIES = 100, 40  # at most
_CEPH_SECONDS = 20.0  # for one operation
_WATCH_SECONDS = 60.0  # twice as long as Ceph keeps a dead client's watch
_LAST_SECONDS = 300.0  # for a caller to end its last step
_PAUSE = 0.2  # seconds between two steps of a caller, at most


@dataclass(frozen=True)
class Told:
    """How a walk ended.

    Attributes:
        troubles: what was wrong; empty if nothing was.
        outcomes: how often each call ended in each way.
        deaths: how often a driver was killed.
    """

    troubles: tuple[str, ...]
    outcomes: Mapping[str, int]
    deaths: int


def walk(
    cluster: Cluster,
    installation: Installation,
    pool: str,
    admin: rados.Rados,
    *,
    seed: int,
    seconds: float,
) -> Told:
    """Walk, take everything down, and say what was wrong.

    The seed makes the choices of each caller the same again, not the moments at which they meet.

    Args:
        cluster: the Ceph.
        installation: the driver, configured for the pool; logs are in its directory.
        pool: of the volumes; the home location, too.
        admin: a connection of the cluster's own user.
        seed: of the choices.
        seconds: how long, without the end.
    """
    controllers = [installation.controller(f"controller-{n}").start() for n in (1, 2)]
    nodes = [installation.node(f"node-{n}").start() for n in (1, 2, 3)]
    admin.wait_for_latest_osdmap()
    with admin.open_ioctx(pool) as ioctx, contextlib.ExitStack() as closing:
        for driver in (*controllers, *nodes):
            closing.callback(driver.stop)
        for node in nodes:
            wait_until_registered(ioctx, node.name)
        before = leftovers.in_ceph(admin, cluster)
        reached = [Reached(driver) for driver in (*controllers, *nodes)]
        for each in reached:
            closing.callback(each.close)
        log = installation.directory / "calls.log"
        world = World(reached[:2], reached[2:], ioctx, _NAMES, Copies(_SNAPSHOTS, _COPIES), log)
        deaths = Deaths(world, [*controllers, *nodes], random.Random(seed))  # noqa: S311
        rollbacks = Rollbacks(world, installation)
        _wander(world, rollbacks, deaths, seed, seconds)
        freezes.require_none(world)
        end.take_down(world)
        ended = rollbacks.ended | _remove_unfinished_copies(installation.config, ioctx)
        ended |= {client for driver in (*controllers, *nodes) for client in _ended(driver)}
        for client in ended:  # else for a day
            cluster.ceph("osd", "blocklist", "rm", client)
        end.wait_until_clean(
            world, lambda: leftovers.difference(before, leftovers.in_ceph(admin, cluster))
        )
    return Told(tuple(world.troubles), world.outcomes, deaths.count)


def _remove_unfinished_copies(config: Path, ioctx: rados.Ioctx) -> set[str]:
    """Remove what the calls of dead controllers left; a controller does it ten minutes later.

    It is refused while Ceph holds the watch of a dead client for alive.

    Returns:
        The clients of controllers that were put on the blocklist for it.
    """
    pooled = connections.Connections(clusters_file.load(config), timeout=_CEPH_SECONDS)
    upkeep = CloneUpkeep(CLUSTER_ID, pooled, pooled, attempt_seconds=0, round_seconds=0)

    def removed() -> bool:
        upkeep.run()
        return not CloneNotes(ioctx).attempts()

    left_is_told = contextlib.suppress(errors.DeadlineExceeded)  # at the walk's end
    with structlog.testing.capture_logs() as log, left_is_told:
        commands.wait_until(removed, "unfinished copies are removed", _WATCH_SECONDS, pause=1)
    return {line["client"] for line in log if line["event"] == blocklist.ENDED}


def _ended(driver: Driver) -> set[str]:
    """Return the clients of dead controllers that this driver put on the blocklist."""
    lines = (line for line in driver.words().splitlines() if blocklist.ENDED in line)
    return {json.loads(line)["client"] for line in lines}


def _wander(world: World, rollbacks: Rollbacks, deaths: Deaths, seed: int, seconds: float) -> None:
    ending, ends_at = threading.Event(), time.monotonic() + seconds

    def caller(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")  # noqa: S311
        one = Caller(world, rollbacks, chance, twice)
        while not ending.wait(chance.uniform(0, _PAUSE)) and time.monotonic() < ends_at:
            _guarded(world, one.step)

    with (
        ThreadPoolExecutor(_CALLERS, "twice") as twice,
        ThreadPoolExecutor(_CALLERS, "caller") as callers,
        ThreadPoolExecutor(1, "deaths") as killer,
    ):
        killing = killer.submit(deaths.run, ending)
        every = [callers.submit(caller, number) for number in range(_CALLERS)]
        if futures.wait(every, seconds + _LAST_SECONDS).not_done:
            freezes.require_none(world)  # one may write to what is frozen
        for done in every:
            done.result()
        ending.set()
        killing.result()


def _guarded(world: World, step: Callable[[], None]) -> None:
    try:
        step()
    except Exception:  # noqa: BLE001  one caller's end must not hide what the others find
        world.trouble(traceback.format_exc())
