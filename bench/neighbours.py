"""M11: CreateVolume in one cluster while another one is dead and many calls wait for it."""

import contextlib
import os
import signal
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from bench.lab import Lab, timed
from bench.metric import Figure, Goal, Result
from e2e import driver, volume, waiting
from e2e.clusters import Cluster, controller_caps
from e2e.clusters.local import LocalCluster
from e2e.driver import Driver

_DEAD = "dead"
_CALLERS = 40
_CALLS = 400
_SECONDS = 120.0  # of a call to the dead cluster, longer than a sidecar waits


def measure(lab: Lab) -> list[Result]:
    """Compare the healthy cluster's 95th percentile with its quiet one, in the same run."""
    with (
        lab.pool() as (pool, _),
        LocalCluster(backend="memstore") as other,
        _controller(lab, other) as controller,
    ):
        here = {"clusterID": driver.CLUSTER_ID, "pool": pool}
        _make(controller, {"clusterID": _DEAD}, "first", 1)  # connected, as it would be
        _make(controller, here, "warm", lab.rounds(50))
        quiet = _make(controller, here, "quiet", lab.rounds(_CALLS))
        callers = waiting.calls(
            controller, {"clusterID": _DEAD}, at_once=_CALLERS, seconds=_SECONDS, pause=1
        )
        with _frozen(other), callers:
            beside = _make(controller, here, "beside", lab.rounds(_CALLS))
    quiet_p95, beside_p95 = (statistics.quantiles(each, n=20)[-1] for each in (quiet, beside))
    what = f"CreateVolume's p95 with {_CALLERS} calls waiting for a dead cluster"
    return [
        Figure("M11", "CreateVolume's p95, quiet", quiet_p95 * 1000, "ms"),
        Figure("M11", what, beside_p95 * 1000, "ms"),
        Figure("M11", "the one beside the other", beside_p95 / quiet_p95, "x", Goal(3)),
    ]


@contextlib.contextmanager
def _controller(lab: Lab, other: Cluster) -> Iterator[Driver]:
    """Give a controller of both clusters."""
    other.create_pool("home")
    keyring = other.create_keyring("bench", controller_caps("home"), lab.directory)
    entry = {
        "clusterID": _DEAD,
        "confFile": str(other.conf),
        "pool": "home",
        "user": "bench",
        "keyring": str(keyring),
    }
    flags = lab.controller.flags
    config = Path(flags[flags.index("--config") + 1])
    both = lab.directory / "both.yaml"
    clusters = [*yaml.safe_load(config.read_text())["clusters"], entry]
    both.write_text(yaml.safe_dump({"clusters": clusters}))
    directory = lab.directory / "both"
    directory.mkdir()
    ours = tuple(str(both) if flag == str(config) else flag for flag in flags)
    controller = replace(
        lab.controller, directory=directory, flags=ours, process=None, channel=None
    )
    try:
        yield controller.start()
    finally:
        controller.stop()


def _make(controller: Driver, parameters: dict[str, str], name: str, count: int) -> list[float]:
    def make(number: int) -> float:
        return timed(lambda: volume.create(controller, f"{name}-{number}", parameters=parameters))

    return [make(number) for number in range(count)]


@contextlib.contextmanager
def _frozen(cluster: Cluster) -> Iterator[None]:
    pids = list(cluster.pids.values())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
