"""`python -m e2e.demo`: 0 when all was as it should be, 1 when not, 130 when interrupted."""

import contextlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

import grpc

from e2e import clusters, driver, errors, leftovers, processes, sweep
from e2e.demo import signals
from e2e.demo.ceph import Ceph
from e2e.demo.screen import Screen
from e2e.demo.story import Story
from rbdcsi.errors import RbdCsiError

_POOL = "demo"
_MAPPER = "fuse"
_TITLE = """\
rbdcsi demo: a volume moves from node-a to node-b, with the file on it, on a Ceph of its own.
Block devices come from the fuse mapper, which runs on any kernel; production uses krbd.
"""
_FAILURES = (signals.Interrupted, errors.BedError, RbdCsiError, AssertionError, OSError)
_LAST_WORDS = 3  # lines of a driver's log that are shown after a failure


def main() -> int:
    """Play the story, take everything down, and return the exit code."""
    screen = Screen()
    signals.listen()
    processes.adopt()
    screen.say(_TITLE)
    with contextlib.ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        try:
            _play(screen, undo, directory)
            signals.check()
            failure = None
        except _FAILURES as error:
            failure = error
        with screen.step("stop Ceph", always=True):
            undo.close()
    left = leftovers.difference(Counter(), leftovers.on_host(directory))
    return _end(screen, failure, left)


def _end(screen: Screen, failure: Exception | None, left: str) -> int:
    """Say how it went, and return the exit code."""
    if left:
        screen.say(f"\nFAILED: left behind:\n{left}")
    if name := signals.noted():  # a Ctrl-C ends Ceph's tools, too: their failure is no news
        screen.say(f"\nInterrupted by {name}; everything is taken down.")
        return 1 if left else 130
    if failure:
        screen.say(f"\nFAILED: {failure}")
    if failure or left:
        return 1
    screen.table()
    screen.say("All was as it should be; nothing is left behind.")
    return 0


def _play(screen: Screen, undo: contextlib.ExitStack, directory: Path) -> None:
    """Start everything, play, and stop the driver.

    Raises:
        Failed: something is not as it should be, or is left behind.
    """
    with screen.step("start Ceph") as note:
        cluster = undo.enter_context(clusters.start("local"))
        cluster.create_pool(_POOL)
        note.words = f"one OSD at {cluster.monitors}, pool {_POOL}"
    undo.enter_context(sweep.at_end(directory))
    connection = undo.enter_context(cluster.connection())
    before = leftovers.in_ceph(connection) + leftovers.on_host(directory)
    with screen.step("start the driver") as note:
        installation = undo.enter_context(driver.installed(cluster, directory, _POOL))
        controller = installation.controller().start()
        first = installation.node("node-a", "--mapper", _MAPPER).start()
        second = installation.node("node-b", "--mapper", _MAPPER).start()
        note.words = f"controller, node-a, node-b: {directory}/*/csi.sock"
    try:
        Story(controller, (first, second), Ceph(cluster, _POOL, screen), screen).play()
    except grpc.RpcError as error:
        raise errors.Failed(_last_words(error, controller, first, second)) from error
    with screen.step("stop the driver", always=True):
        installation.running.close()
    after = leftovers.in_ceph(connection) + leftovers.on_host(directory)
    if left := leftovers.difference(before, after):
        raise errors.Failed(f"the driver left behind:\n{left}")


def _last_words(error: grpc.RpcError, *drivers: driver.Driver) -> str:
    """Say what the call failed with, and what the driver's processes logged last."""
    lines = [f"{error.code().name}: {error.details()}"]
    for process in drivers:
        said = [line for line in process.words().splitlines() if '"level": "debug"' not in line]
        lines += [f"{process.name}: {line}" for line in said[-_LAST_WORDS:]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
