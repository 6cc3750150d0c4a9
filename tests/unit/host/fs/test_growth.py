"""A growth that may succeed later is ABORTED: after FAILED_PRECONDITION the kubelet gives up."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host import lasting
from rbdcsi.host.fs import growth
from rbdcsi.host.fs.filesystems import Runner
from rbdcsi.host.fs.paths import Target


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'Device or resource busy While checking for on-line resizing' >&2; exit 1", True),
        ("kill -KILL $$", True),
        ("exit 127", True),
        ("echo 'Bad magic number in super-block' >&2; exit 1", False),
    ],
)
def test_only_a_lasting_failure_is_final(
    tmp_path: Path, put_first: Callable[[str, str], None], script: str, expected: bool
) -> None:
    put_first("resize2fs", script)
    runner = Runner(lasting.LastingCommands(), lasting.Work(("fsid", 1, "", "image"), 1, "grow"))
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(errors.Busy if expected else errors.Refused):
            growth.grow(Path("/dev/rbd0"), "ext4", Target(tmp_path, descriptor), runner)
    finally:
        os.close(descriptor)
