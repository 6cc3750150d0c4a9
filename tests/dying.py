"""Processes of the driver that die after a step; see telemetry.steps."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from e2e.driver import CLUSTER_ID, Driver

_SECONDS = 120
_BEGIN = """
import sys
from pathlib import Path
from rbdcsi.ceph.connections import Connections
from rbdcsi.config import clusters_file

pooled = Connections(clusters_file.load(Path(sys.argv[1])), timeout=10)
"""


def in_background(driver: Driver, step: str) -> None:
    """Start a driver that is not running, and wait until its background work kills it."""
    with contextlib.suppress(AssertionError):  # it may die before it listens
        driver.start(kill_after=step)
    driver.wait_for_death()
    assert driver.process
    assert driver.process.returncode == -signal.SIGKILL, driver.words()[-3000:]
    driver.stop()


def in_work(work: str, config: Path, step: str) -> None:
    """Do a part of a controller's work in a process that dies after the step.

    Args:
        work: the program; `pooled` are its connections, `sys.argv[2]` is the cluster's id.
        config: the controller's configuration file.
        step: the step.
    """
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + work, config, CLUSTER_ID],
        env={**os.environ, "RBDCSI_TEST_KILL_AFTER": step},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
