"""A control group for the mappers' daemons, apart from the node plugin's.

A container ends with all that is in its control group. The daemons, and the volumes that they
serve, must outlive it: they are started in a group of the host (version 2, a directory below
/sys/fs/cgroup), which is made when it is first needed.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

_ENTER = 'echo 0 >"$0" && exec "$@"'  # cgroups(7): 0 is the writer itself


def unusable(group: Path | None) -> str | None:
    """Return why daemons cannot be started in the group (the cause and its cure), None if they can.

    Args:
        group: its directory; None is the plugin's own, which always can.
    """
    if group is None:
        return None
    if not _members(group.parent).exists():  # a directory in tmpfs would hold nothing together
        return (
            f"{group.parent} is no control group: the host must have version 2, and the node "
            "plugin the host's /sys; or choose another --daemon-cgroup"
        )
    try:
        with contextlib.suppress(FileExistsError):
            group.mkdir()
    except OSError as error:
        return f"control group {group} cannot be made: {error.strerror}; see --daemon-cgroup"
    return None


def inside(group: Path | None, argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` in the group, which `unusable` has looked at."""
    if group is None:
        return tuple(argv)
    return ("sh", "-c", _ENTER, str(_members(group)), *argv)


def _members(group: Path) -> Path:
    return group / "cgroup.procs"
