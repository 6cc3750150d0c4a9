"""Takes away what mappers left below a directory: their daemons, mounts and loop devices.

A daemon that outlives its Ceph keeps its mount waiting, and with it every `sync` of the machine. So
this is done for each run, whatever ends it: `python -m e2e.sweep DIRECTORY` waits for the end of
its standard input, which a killed parent causes, too.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from e2e import errors, leftovers
from e2e.clusters import commands
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.mappers import storage_daemon

_SECONDS = 30.0


@contextlib.contextmanager
def at_end(directory: Path) -> Iterator[None]:
    """Sweep the directory after the body, also when this process is killed in it."""
    argv = (sys.executable, "-m", "e2e.sweep", str(directory))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True):
        yield


def sweep(directory: Path) -> None:
    """Take away what is there; data that is not written yet is lost."""
    # The daemons go first, so that nothing waits for a Ceph that does not answer.
    for file in storage_daemon.running():
        if file.is_relative_to(directory):
            storage_daemon.stop(file.parent, force=True, seconds=_SECONDS)
    with contextlib.suppress(errors.DeadlineExceeded):  # what stays is counted as left behind
        # More than once: a loop device goes with its last user, and only then its file's mount.
        commands.wait_until(lambda: _swept(directory), f"{directory} is swept", _SECONDS)


def _swept(directory: Path) -> bool:
    """Unmount and detach what is there; True when nothing was."""
    mounts = [entry.target for entry in mountinfo.parse(Path("/proc/self/mountinfo").read_text())]
    below = [target for target in mounts if directory in target.parents]
    devices = [device for device, _ in leftovers.loop_devices([directory])]
    for target in reversed(below):
        _try("umount", target)
    for device in devices:
        _try("losetup", "--detach", device)
    return not below and not devices


def _try(*argv: str | Path) -> None:
    with contextlib.suppress(errors.Failed):  # busy, or gone by now
        commands.run(argv, timeout=_SECONDS)


if __name__ == "__main__":
    sys.stdin.read()
    sweep(Path(sys.argv[1]))
