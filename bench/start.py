"""M0: from exec of `rbdcsi serve` to the answer of its first Probe."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import grpc

from bench.lab import Lab, timed
from bench.metric import Comparison, Figure, Goal, Result, alternate
from e2e import processes
from rbdcsi.api import csi_pb2, csi_pb2_grpc

_LOOK_SECONDS = 0.002
_SECONDS = 30.0
_IMPORTS = "import grpc, google.protobuf, rados, rbd, prometheus_client, yaml, structlog, click"


def measure(lab: Lab) -> list[Result]:
    """Compare with a Python that imports the libraries that the driver stands on."""
    path = lab.directory / "start.sock"
    driver = lab.controller
    argv = (*driver.program, "serve", "controller", "--endpoint", f"unix://{path}", *driver.flags)

    def imports() -> None:
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True)

    rounds = alternate(
        lambda _: _seconds_to_probe(argv, path),
        lambda _: timed(imports),
        lab.rounds(20),
        lab.rounds(2),
    )
    seconds = median(sample for each in rounds for sample in each.driver)
    return [
        Comparison("M0", "start to first Probe", "Python with the same libraries", rounds),
        Figure("M0", "start to first Probe", seconds, "s", Goal(0.3)),
    ]


def _seconds_to_probe(argv: tuple[str, ...], path: Path) -> float:
    begun = time.perf_counter()
    process = processes.start(argv, subprocess.DEVNULL)
    try:
        _wait_until_listening(path)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            csi_pb2_grpc.IdentityStub(channel).Probe(csi_pb2.ProbeRequest(), timeout=_SECONDS)
        return time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _wait_until_listening(path: Path) -> None:
    ends_at = time.monotonic() + _SECONDS
    while time.monotonic() < ends_at:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.connect(str(path))
            return
        time.sleep(_LOOK_SECONDS)
    raise AssertionError(f"nothing listens at {path} after {_SECONDS:.0f} s")
