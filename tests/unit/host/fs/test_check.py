"""Only e2fsck itself says that a filesystem has damage: not a signal, nor a failed start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host import command, lasting
from rbdcsi.host.fs import filesystems
from rbdcsi.host.fs.filesystems import Runner


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'UNEXPECTED INCONSISTENCY' >&2; exit 4", errors.Refused),
        ("exit 12", errors.Refused),
        ("exit 8", command.CommandFailed),
        ("kill -KILL $$", command.CommandFailed),
        ("kill -SEGV $$", command.CommandFailed),
        ("exit 126", command.CommandFailed),
        ("exit 127", command.CommandFailed),
    ],
)
def test_damage_is_what_the_program_reports(
    put_first: Callable[[str, str], None], script: str, error: type[Exception]
) -> None:
    put_first("e2fsck", script)
    runner = Runner(lasting.LastingCommands(), lasting.Work(("fsid", 1, "", "image"), 1, "check"))
    with pytest.raises(error):
        filesystems.check(Path("/dev/rbd0"), "ext4", runner)
