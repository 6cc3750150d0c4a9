"""What a run leaves mounted goes with it, also when it is killed."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import leftovers, processes
from e2e.clusters import commands
from tests import faults

pytestmark = pytest.mark.usefixtures("nothing_left")

RUN = """
import sys, time
from pathlib import Path
from e2e import sweep
with sweep.at_end(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def directory(temporary: Path) -> Iterator[Path]:
    """Give a directory with a file system mounted in it, from a loop device over a file in it."""
    with tempfile.TemporaryDirectory(dir=temporary) as name, contextlib.ExitStack() as stack:
        file, target = Path(name) / "file", Path(name) / "mounted"
        target.mkdir()
        with file.open("wb") as opened:
            opened.truncate(16 << 20)
        commands.run(["mkfs.ext4", "-q", file])
        device = commands.run(["losetup", "--find", "--show", file]).strip()
        stack.callback(_detach, Path(name))
        commands.run(["mount", device, target])
        stack.callback(_unmount, target)
        yield Path(name)


def _unmount(target: Path) -> None:
    if target.is_mount():
        commands.run(["umount", target])


def _detach(directory: Path) -> None:
    """Detach the directory's devices, if any is left: another test may use its number by now."""
    for device, _ in leftovers.loop_devices([directory]):
        commands.run(["losetup", "--detach", device])


def test_run_that_is_killed_leaves_neither_mount_nor_loop_device(directory: Path) -> None:
    command = (sys.executable, "-c", RUN, str(directory))
    with processes.start(command, subprocess.PIPE) as run, contextlib.ExitStack() as ending:
        ending.callback(run.kill)
        assert run.stdout
        assert run.stdout.readline() == b"ready\n"
        assert (directory / "mounted").is_mount()
        faults.kill9(run.pid)

    def swept() -> bool:
        return not (directory / "mounted").is_mount() and not [*leftovers.loop_devices([directory])]

    commands.wait_until(swept, "the directory is swept")
