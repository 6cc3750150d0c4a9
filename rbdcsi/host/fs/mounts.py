"""Mounting and unmounting at targets below one directory (the kubelet's), and what is mounted.

mount(8) and umount(8) run as children, so that a mount that hangs holds no thread; they are given
the target by an open descriptor, so that no link can send them elsewhere.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, processes
from rbdcsi.host.fs import mountinfo, paths, selinux
from rbdcsi.runtime import deadlines

_MOUNTINFO = Path("/proc/self/mountinfo")
_BINDER = Path(__file__).with_name("bind_readonly.py")
_MOUNT = ("mount", "--no-canonicalize", "--internal-only")
_UMOUNT = ("umount", "--no-canonicalize", "--internal-only")


class Mounts:
    """What is mounted below `base`, and the verbs that change it.

    Targets outside `base`, or through a link below it, are InvalidRequest everywhere.
    """

    def __init__(self, base: Path) -> None:
        """Work below `base`; it may be a link itself, the kernel then names what it points to."""
        self._base = base
        self._real_base = base.resolve()

    def at(self, target: Path) -> mountinfo.MountEntry | None:
        """Return the mount that is seen at the target (the topmost), or None.

        The kernel says which one by `mnt_id` of the opened target (proc(5), fdinfo), so a mount
        that another one hides is never taken for it.
        """
        try:
            with paths.open_target(target, self._base) as opened:
                mount_id = _mount_id(opened.fd)
        except errors.NotFound:
            return None
        here = (entry for entry in self.under(target) if entry.mount_id == mount_id)
        return next((entry for entry in here if entry.target == self._real(target)), None)

    def under(self, path: Path) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount at or below the path, which may be `base`; hidden ones too."""
        real = self._real_base if path == self._base else self._real(path)
        return tuple(e for e in self.everywhere() if e.target == real or real in e.target.parents)

    def everywhere(self) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount that this process sees."""
        return tuple(mountinfo.parse(os.fsdecode(_MOUNTINFO.read_bytes())))

    def mount(
        self, device: Path, target: Path, fs_type: str, options: Sequence[str], *, seconds: float
    ) -> None:
        """Mount the device's file system at the target, an existing directory.

        Raises:
            NotFound: no such target.
            Refused: a label of SELinux among the options would be dropped.
            CommandFailed: the kernel or mount(8) refuses, in its words.
            CommandTimedOut, CommandStuck: it took longer than `seconds`.
        """
        selinux.require_labels(options, self.everywhere)
        with paths.open_target(target, self._base, "directory") as opened:
            chosen = ("-o", ",".join(options)) if options else ()
            argv = (*_MOUNT, "-t", fs_type, *chosen, "--", str(device), opened.proc)
            command.run(argv, seconds=seconds, pass_fds=(opened.fd,))

    def bind(self, source: Path, target: Path, *, readonly: bool, seconds: float) -> None:
        """Make the source appear at the target, read-only from its first moment if asked.

        Args:
            source: a directory or a bound device below `base`, or a device's node outside it.
                Read-only has no effect on a device's data: map it read-only for that.
            target: an existing directory, or for a device an existing file.
            readonly: refuse writes through this mount.
            seconds: how long it may take.

        Raises:
            Failed: a read-only one is refused by the kernel; the message has its words.
            Others: as `mount`.
        """
        with deadlines.within(deadlines.remaining(seconds)):
            bind = self._bind_readonly if readonly else self._bind
            if self._base in source.parents:
                with paths.open_target(source, self._base) as origin:
                    bind(origin.proc, origin.fd, target, origin.kind, seconds)
            else:
                bind(str(source), None, target, "file", seconds)

    def unmount(self, target: Path, *, seconds: float) -> None:
        """Take away every mount that is stacked on the target; none is fine. Never lazy.

        Raises:
            Busy: it is in use; the message says by whom as far as /proc tells.
            CommandTimedOut, CommandStuck: it took longer than `seconds`.
        """
        with deadlines.within(deadlines.remaining(seconds)):
            while entry := self.at(target):
                self._unmount_top(target, entry, seconds)

    def _bind(
        self, source: str, source_fd: int | None, target: Path, kind: paths.Kind, seconds: float
    ) -> None:
        with paths.open_target(target, self._base, kind) as opened:
            fds = [fd for fd in (source_fd, opened.fd) if fd is not None]
            argv = (*_MOUNT, "--bind", "--", source, opened.proc)
            command.run(argv, seconds=seconds, pass_fds=fds)

    def _bind_readonly(
        self, source: str, source_fd: int | None, target: Path, kind: paths.Kind, seconds: float
    ) -> None:
        with paths.open_target(target, self._base, kind) as opened:
            fds = [fd for fd in (source_fd, opened.fd) if fd is not None]
            argv = (sys.executable, "-I", "-S", str(_BINDER), source, str(opened.fd))
            done = command.run(argv, seconds=seconds, pass_fds=fds, ok=range(256))
        if done.exit_code:
            old = "; Linux 5.12 is needed for it" if done.exit_code == errno.ENOSYS else ""
            reason = f"{os.strerror(done.exit_code)}{old}"
            raise errors.Failed(f"{target}: cannot be bound read-only: {reason}")

    def _unmount_top(self, target: Path, entry: mountinfo.MountEntry, seconds: float) -> None:
        with paths.open_parent(target, self._base) as parent:
            argv = (*_UMOUNT, "--", f"/proc/self/fd/{parent}/{target.name}")
            try:
                command.run(argv, seconds=seconds, pass_fds=(parent,))
            except command.CommandFailed as error:
                if self.at(target) != entry:
                    return  # somebody else took it away meanwhile
                raise self._busy(target, entry, error) from error

    def _busy(
        self, target: Path, entry: mountinfo.MountEntry, error: command.CommandFailed
    ) -> errors.Busy:
        users = processes.using(self._real(target)) or processes.NOBODY
        return errors.Busy(
            f"{target}: still mounted, {entry.source} is in use by {users} "
            f"({error.stderr.strip()}); the same call succeeds once they let go"
        )

    def _real(self, target: Path) -> Path:
        return self._real_base.joinpath(*paths.inside(target, self._base))


def _mount_id(fd: int) -> int:
    fields = Path(f"/proc/self/fdinfo/{fd}").read_text().split()
    return int(fields[fields.index("mnt_id:") + 1])
