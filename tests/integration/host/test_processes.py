"""The users of mounts and devices, whatever else the machine has mounted."""

import os
import subprocess
from pathlib import Path

from rbdcsi.host import processes

# In a mount namespace of its own: other tests read this one's mounts at the same time.
_MOUNT = 'mount -t tmpfs none "$0" && mountpoint -d "$0" && read _'


def test_a_path_that_is_not_utf8_is_named_and_hides_nothing(tmp_path: Path) -> None:
    target = os.fsencode(tmp_path / "caf") + b"\xe9"
    os.mkdir(target)  # noqa: PTH102  bytes
    with subprocess.Popen(
        ("unshare", "--mount", "sh", "-c", _MOUNT, target),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        try:
            users = processes.mounts_of_device(holder.stdout.readline().strip())
            assert f"a mount at {tmp_path}/caf\\xe9 in the namespace of pid" in users
        finally:
            assert holder.stdin
            holder.stdin.close()
