"""A control group for the mappers' daemons, separate from the node plugin's.

When a container ends, the kernel kills every process in its control group. The mappers' daemons
must outlive the container, because they serve volumes. So they start in a control group of the host
(version 2, a directory below /sys/fs/cgroup), which the driver makes at the first need.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

_ENTER = 'echo 0 >"$0" && exec "$@"'  # cgroups(7): 0 stands for the writing process


def unusable(group: Path | None) -> str | None:
    """Return the reason why no daemon can start in the group, with its cure; None if one can.

    Args:
        group: the group's directory; None is the plugin's own group, which is always usable.
    """
    if group is None:
        return None
    if not _members(group.parent).exists():  # a directory in a tmpfs would be no control group
        return (
            f"{group.parent} is no control group; use a host with control groups of version 2 and "
            "mount its /sys into the node plugin, or set another --daemon-cgroup"
        )
    try:
        with contextlib.suppress(FileExistsError):
            group.mkdir()
    except OSError as error:
        return (
            f"control group {group} cannot be made: {error.strerror}; mount the host's /sys "
            "writable into the node plugin, or set another --daemon-cgroup"
        )
    return None


def command_in(group: Path | None, argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` in the group; call `unusable` before."""
    if group is None:
        return tuple(argv)
    return ("sh", "-c", _ENTER, str(_members(group)), *argv)


def _members(group: Path) -> Path:
    return group / "cgroup.procs"
