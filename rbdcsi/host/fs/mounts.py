"""Mounts at targets below one directory (the kubelet's): list, mount, bind and unmount them.

mount(8) and umount(8) run as children, so that a mount that hangs blocks no thread. They get the
target as an open descriptor, so that no link can lead them to another path.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, processes
from rbdcsi.host.block import devices, signature
from rbdcsi.host.fs import mountinfo, paths, selinux
from rbdcsi.runtime import deadlines

_MOUNTINFO = Path("/proc/self/mountinfo")
_BINDER = Path(__file__).with_name("bind_readonly.py")
_MOUNT = ("mount", "--no-canonicalize", "--internal-only")
_NEEDS_WRITES = "read-only"  # mount(8) says this for EROFS, when read-only was asked for
_UMOUNT = ("umount", "--no-canonicalize", "--internal-only")


class Mounts:
    """The mounts below `base`.

    Every method raises InvalidRequest for a target that is outside `base` or that a link below
    `base` leads to.
    """

    def __init__(self, base: Path) -> None:
        """Work below `base`, which may be a link: the kernel names mounts by its destination."""
        self._base = base
        self._real_base = base.resolve()

    def mount_at(self, target: Path) -> mountinfo.MountEntry | None:
        """Return the topmost mount at the target, or None.

        The kernel identifies it by `mnt_id` of the opened target (proc(5), fdinfo), so this never
        returns a mount that another one hides.
        """
        try:
            with paths.open_target(target, self._base) as opened:
                mount_id = _mount_id(opened.fd)
        except errors.NotFound:
            return None
        entries = (entry for entry in self.mounts_below(target) if entry.mount_id == mount_id)
        return next((entry for entry in entries if entry.target == self._real(target)), None)

    def mounts_below(self, path: Path) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount at or below the path, which may be `base`; hidden mounts too."""
        real = self._real_base if path == self._base else self._real(path)
        return tuple(e for e in self.all_mounts() if e.target == real or real in e.target.parents)

    def all_mounts(self) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount that this process sees."""
        return tuple(mountinfo.parse(os.fsdecode(_MOUNTINFO.read_bytes())))

    def mount(
        self, device: Path, target: Path, fs_type: str, options: Sequence[str], *, seconds: float
    ) -> None:
        """Mount the device's filesystem at the target.

        Args:
            device: the block device.
            target: an existing directory below `base`.
            fs_type: the device's filesystem.
            options: mount options, each as `name` or `name=value`.
            seconds: how long it may take.

        Raises:
            NotFound: the target does not exist.
            Busy: the device is in use.
            Refused: mount(8) would drop a label of SELinux that is among the options, or the
                filesystem must be written to first.
            CommandFailed: the kernel or mount(8) refuses; the error has mount's message.
            CommandTimedOut, CommandStuck: it took longer than `seconds`.
        """
        selinux.require_labels(options, self.all_mounts)
        with paths.open_target(target, self._base, "directory") as opened:
            flags = ("-o", ",".join(options)) if options else ()
            argv = (*_MOUNT, "-t", fs_type, *flags, "--", str(device), opened.proc)
            with_options = f" with {','.join(options)}" if options else ""
            step = f"mounting {fs_type} of {device} at {target}{with_options}"
            try:
                command.run(argv, seconds=seconds, pass_fds=(opened.fd,), step=step)
            except command.CommandFailed as error:
                devices.require_unclaimed(device)
                if "ro" in options and _needs_writes(device, fs_type, error, seconds):
                    raise errors.Refused(_journal_message(device, fs_type)) from error
                raise

    def bind(self, source: Path, target: Path, *, readonly: bool, seconds: float) -> None:
        """Bind the source to the target; a read-only bind is read-only from its first moment.

        Args:
            source: a directory or a bound device below `base`, or a device's node outside `base`.
            target: an existing directory, or for a device an existing file.
            readonly: refuse writes through this mount. This does not protect the data of a device;
                to protect it, map the device read-only.
            seconds: how long it may take.

        Raises:
            Failed: the kernel refuses a read-only bind; the error has the kernel's message.
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
        """Unmount every mount that is stacked on the target; do nothing if there is none.

        It never unmounts lazily: when it returns, the mounts have ended.

        Raises:
            Busy: a mount is in use; the message names the users that /proc shows.
            CommandTimedOut, CommandStuck: it took longer than `seconds`.
        """
        with deadlines.within(deadlines.remaining(seconds)):
            while entry := self.mount_at(target):
                self._unmount_top(target, entry, seconds)

    def detach(self, target: Path, *, seconds: float) -> None:
        """Take every mount that is stacked on the target out of the tree, even if it is in use.

        The kernel ends such a mount when its last user has closed it (umount(2), MNT_DETACH). It
        is for devices that do not work any more; `unmount` is for all others.

        Raises:
            CommandFailed, CommandTimedOut, CommandStuck: see `mount`.
        """
        with deadlines.within(deadlines.remaining(seconds)):
            while self.mount_at(target):
                with paths.open_parent(target, self._base) as parent:
                    argv = (*_UMOUNT, "--lazy", "--", f"/proc/self/fd/{parent}/{target.name}")
                    command.run(argv, seconds=seconds, pass_fds=(parent,))

    def _bind(
        self, source: str, source_fd: int | None, target: Path, kind: paths.Kind, seconds: float
    ) -> None:
        with paths.open_target(target, self._base, kind) as opened:
            fds = [fd for fd in (source_fd, opened.fd) if fd is not None]
            argv = (*_MOUNT, "--bind", "--", source, opened.proc)
            command.run(argv, seconds=seconds, pass_fds=fds, step=f"binding at {target}")

    def _bind_readonly(
        self, source: str, source_fd: int | None, target: Path, kind: paths.Kind, seconds: float
    ) -> None:
        with paths.open_target(target, self._base, kind) as opened:
            fds = [fd for fd in (source_fd, opened.fd) if fd is not None]
            argv = (sys.executable, "-I", "-S", str(_BINDER), source, str(opened.fd))
            result = command.run(
                argv,
                seconds=seconds,
                pass_fds=fds,
                ok=range(256),
                step=f"binding read-only at {target}",
            )
        if result.exit_code:
            cure = "; this needs Linux 5.12 or later" if result.exit_code == errno.ENOSYS else ""
            reason = f"{os.strerror(result.exit_code)}{cure}"
            raise errors.Failed(f"{target}: cannot be bound read-only: {reason}")

    def _unmount_top(self, target: Path, entry: mountinfo.MountEntry, seconds: float) -> None:
        with paths.open_parent(target, self._base) as parent:
            argv = (*_UMOUNT, "--", f"/proc/self/fd/{parent}/{target.name}")
            try:
                command.run(argv, seconds=seconds, pass_fds=(parent,), step=f"unmounting {target}")
            except command.CommandFailed as error:
                if self.mount_at(target) != entry:
                    return  # another process unmounted it just now
                raise self._busy_error(target, entry, error) from error

    def _busy_error(
        self, target: Path, entry: mountinfo.MountEntry, error: command.CommandFailed
    ) -> errors.Busy:
        users = processes.users_of_path(self._real(target)) or processes.HIDDEN_USER
        return errors.Busy(
            f"{target}: cannot be unmounted ({error.stderr.strip()}), {entry.source} is in use by "
            f"{users}; end the users or close their files, then repeat the call"
        )

    def _real(self, target: Path) -> Path:
        return self._real_base.joinpath(*paths.components_below(target, self._base))


def _needs_writes(device: Path, fs_type: str, error: command.CommandFailed, seconds: float) -> bool:
    """Return whether a read-only mount failed because the filesystem must be written to first.

    btrfs then fails with EIO (btrfs_replay_log in fs/btrfs/disk-io.c), the others with EROFS.
    """
    if fs_type == "btrfs":
        return signature.has_btrfs_log(device, seconds=seconds)
    return _NEEDS_WRITES in error.stderr


def _journal_message(device: Path, fs_type: str) -> str:
    return (
        f"{device}: {fs_type} was not unmounted in order, so its journal must be replayed before "
        "it is mounted, which a read-only attachment cannot do; attach the volume once "
        "read-write, then read-only again"
    )


def _mount_id(fd: int) -> int:
    fields = Path(f"/proc/self/fdinfo/{fd}").read_text().split()
    return int(fields[fields.index("mnt_id:") + 1])
