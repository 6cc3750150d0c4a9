"""Freezes a mounted filesystem: all is written out, and writes wait until it is thawed.

ioctl(2) FIFREEZE and FITHAW. A child does it, which thaws the filesystem by itself at a time limit
and when the driver dies (`freeze_child.py`). The kernel does not count freezes: a filesystem that
another program has frozen is refused (EBUSY).
"""

import errno
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command
from rbdcsi.host.fs import paths
from rbdcsi.host.kernel import cgroup
from rbdcsi.runtime.readable import wait_until_readable

_CHILD = Path(__file__).with_name("freeze_child.py")
_PROGRAM = (sys.executable, "-I", "-S", str(_CHILD))
_THAW_SECONDS = 10.0
_READ_BYTES = 4096
_GRACE_SECONDS = 2.0  # after its limit, for a child to thaw on a busy machine


@dataclass(frozen=True)
class Thawed:
    """A filesystem that is thawed.

    `seconds` is how long it was frozen. `was_frozen` is whether it still was at the order to thaw.
    """

    seconds: float
    was_frozen: bool


class Freeze:
    """A child that freezes a filesystem and holds it."""

    def __init__(
        self,
        mount: paths.Target,
        limit: float,
        *,
        pass_fds: Collection[int] = (),
        group: Path | None = None,
    ) -> None:
        """Begin to freeze.

        Args:
            mount: the opened directory of a mount of the filesystem.
            limit: the seconds from the freeze until the child thaws by itself.
            pass_fds: descriptors that the child keeps open until it has ended.
            group: the control group that the child runs in, so that it outlives the driver's
                container; None is the caller's own.

        Raises:
            CommandFailed: the child could not be started.
        """
        self._mount, self._limit = mount.path, limit
        argv = (*_PROGRAM, str(mount.fd), str(limit))
        self._process = command.start(
            cgroup.command_in(None if cgroup.unusable(group) else group, argv),
            step=f"freezing the filesystem at {mount.path}",
            has_input=True,
            pass_fds=(mount.fd, *pass_fds),
            mortal=False,
        )
        self._output = self._process.stdout
        self._unread = b""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def wait_until_frozen(self) -> bool:
        """Return whether the filesystem is frozen; False if the thaw was ordered before.

        Raises:
            Refused: the kernel does not freeze it, or another program has it frozen.
        """
        if self._line(None) != "synced":
            return False
        match self._line(None).split():
            case ["frozen"]:
                return True
            case ["refused", number]:
                raise errors.Refused(_refusal(self._mount, int(number)))
            case _:
                return False

    def thaw(self) -> None:
        """Order the thaw; also from another thread."""
        if self._process.stdin:
            self._process.stdin.close()

    def wait_until_thawed(self) -> Thawed | None:
        """Return how long the filesystem was frozen; None if it may still be.

        A child that is stopped, or killed, does not thaw: it is killed after its time limit.
        """
        match self._line(self._limit + _GRACE_SECONDS).split():
            case ["thawed", seconds, was_frozen]:
                return Thawed(float(seconds), was_frozen == "True")
            case _:
                return None

    def end(self) -> bool:
        """Return when the child has ended; one that does not end is killed.

        Returns:
            Whether it left nothing frozen; otherwise `thaw` is needed.
        """
        self.thaw()
        return command.end(self._process, _GRACE_SECONDS) == 0

    def _line(self, seconds: float | None) -> str:
        """Return the child's next line; "" if it has ended, or prints none in time."""
        while self._output and b"\n" not in self._unread:
            if not wait_until_readable(self._output, seconds):
                return ""
            data = os.read(self._output.fileno(), _READ_BYTES)
            if not data:
                return ""
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


def thaw(mount: paths.Target) -> None:
    """Thaw a filesystem that an earlier process may have left frozen.

    Args:
        mount: the opened directory of a mount of it.

    Raises:
        Failed: it may still be frozen.
        CommandTimedOut, CommandStuck: the same, as its disk does not answer.
    """
    command.run(
        (*_PROGRAM, str(mount.fd), "0"),
        seconds=_THAW_SECONDS,
        step=f"thawing the filesystem at {mount.path}",
        pass_fds=(mount.fd,),
    )


def _refusal(mount: Path, number: int) -> str:
    if number == errno.EBUSY:
        return (
            f"the filesystem at {mount} is frozen already, by another program; if none needs that "
            "any more, `fsfreeze --unfreeze` ends it"
        )
    return (
        f"the kernel does not freeze the filesystem at {mount}: {os.strerror(number)}; `dmesg` may "
        "name the cause"
    )
