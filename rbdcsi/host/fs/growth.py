"""Makes a mounted filesystem as large as its device, while it is used.

The kernel does it, and its journal or copy-on-write makes it safe to cut off. The program gets the
mount as an open descriptor, so it works on this mount, which stays until the program has ended.
"""

import re
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.fs import paths
from rbdcsi.host.fs.filesystems import Runner

# Another growth or a balance runs; the kubelet gives up at FAILED_PRECONDITION, but not at ABORTED.
_PASSING = re.compile("busy|temporarily unavailable|in progress", re.IGNORECASE)


def grow(device: Path, fs_type: str, mount: paths.Target, runner: Runner) -> None:
    """Grow the filesystem; one that is as large as its device already stays as it is.

    Args:
        device: the block device, which has its new size.
        fs_type: one of `model.filesystems.TABLE`.
        mount: the opened directory of a writable mount of that device.
        runner: runs the program, which may outlive the call. Its work must name the device's size,
            because the result for another size says nothing.

    Raises:
        Refused: kernel or program refuse; the filesystem is used on as it is.
        Busy: the program was cut off, or something else works on the filesystem.
        ChildAlive: the growth runs on; a repeat takes its result.
    """
    children, work = runner.children, runner.work
    step = f"growing {fs_type} of {device} at {mount.path}"
    try:
        if children.result(work) is None:
            argv = _arguments(device, fs_type, mount)
            children.run(work, argv, step=step, pass_fds=(mount.fd,))
    except command.CommandFailed as error:
        if error.exit_code not in command.ANSWERS or _PASSING.search(error.stderr):
            raise errors.Busy(f"{error}; its data is as it was; try again") from error
        raise errors.Refused(
            f"{error}; its data is as it was, and it can be used with its old size. `dmesg` may "
            "name the cause; damage is repaired when the volume is staged next (delete the Pod), "
            "and then the filesystem is grown"
        ) from error


def _arguments(device: Path, fs_type: str, mount: paths.Target) -> tuple[str, ...]:
    if fs_type == "ext4":
        # It finds the mount by itself, and refuses a device that is mounted where it cannot see it.
        return ("resize2fs", str(device))
    if fs_type == "xfs":
        return ("xfs_growfs", "-d", mount.proc)
    return ("btrfs", "filesystem", "resize", "max", mount.proc)
