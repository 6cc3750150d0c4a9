"""The demo as its users run it; `nothing_left` counts what it leaves on this host."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from e2e import processes
from tests import faults

DEMO = (sys.executable, "-m", "e2e.demo")
SECONDS = 120

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(300)]


@contextlib.contextmanager
def _demo() -> Iterator[subprocess.Popen[bytes]]:
    """Run the demo during the body, its output on a pipe as in a CI log."""
    with processes.start(DEMO, subprocess.PIPE) as demo:
        try:
            yield demo
        finally:
            demo.terminate()
            demo.wait(SECONDS)


def _read_until(demo: subprocess.Popen[bytes], step: str) -> None:
    """Return as soon as the demo says that the step is done."""
    assert demo.stdout
    read = []
    for line in map(bytes.decode, demo.stdout):
        read.append(line)
        if line.startswith(step):
            return
    pytest.fail(f"the demo never came to {step!r}; it said:\n{''.join(read)}")


def _process_of(demo: subprocess.Popen[bytes], node: str) -> int:
    family = processes.descendants(demo.pid)
    (found,) = (p.pid for p in family if "rbdcsi serve node" in p.command and node in p.command)
    return found


def test_demo_moves_a_file_from_node_to_node_and_shows_the_refusal_and_the_times() -> None:
    with _demo() as demo:
        said = demo.communicate(timeout=SECONDS)[0].decode()
    assert demo.returncode == 0, said
    for words in (
        "refused with FAILED_PRECONDITION",
        "rbd status demo/csi-demo",
        "node-b: state staged",
        "the same sha256",
        "nothing is left behind",
    ):
        assert words in said, said
    table = said[said.index("seconds") :]
    for step in ("create", "attach node-a", "stage node-b", "unpublish node-b", "delete", "all"):
        assert step in table


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, "start Ceph"), (signal.SIGINT, "publish node-a")],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_interrupted_demo_says_so_and_takes_everything_down(
    number: signal.Signals, step: str
) -> None:
    with _demo() as demo:
        _read_until(demo, step)
        demo.send_signal(number)
        said = demo.communicate(timeout=SECONDS)[0].decode()
    assert demo.returncode == 130, said
    assert f"Interrupted by {number.name}" in said


def test_demo_whose_node_dies_fails_with_the_reason_and_takes_everything_down() -> None:
    with _demo() as demo:
        _read_until(demo, "publish node-a")
        faults.kill9(_process_of(demo, "node-a"))
        said = demo.communicate(timeout=SECONDS)[0].decode()
    assert demo.returncode == 1, said
    assert "FAILED: UNAVAILABLE" in said
