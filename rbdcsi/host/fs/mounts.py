"""Mounts at targets below one directory (the kubelet's): list, mount, bind and unmount them.

mount(8) and umount(8) run as children, so that a mount that hangs blocks no thread; what cannot
hang is a system call of this process (`mount_calls`). Both get the target as an open descriptor, so
that no link can lead them to another path.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, processes
from rbdcsi.host.block import devices, signature
from rbdcsi.host.fs import mount_calls, mountinfo, paths, selinux
from rbdcsi.runtime import deadlines

_MOUNTINFO = Path("/proc/self/mountinfo")
_MOUNT = ("mount", "--no-canonicalize", "--internal-only")
_NEEDS_WRITES = "read-only"  # mount(8) says this for EROFS, when read-only was asked for
_UNKNOWN = "wrong fs type"  # and this for EINVAL
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
        entry = mountinfo.find(_mountinfo(), mount_id)
        return entry if entry and entry.target == self._real(target) else None

    @contextlib.contextmanager
    def opened(self, entry: mountinfo.MountEntry) -> Iterator[paths.Target]:
        """Open the directory that a mount shows, for the body.

        Raises:
            Busy: another mount is there now.
        """
        with paths.open_target(entry.target, self._real_base, "directory") as opened:
            if _mount_id(opened.fd) != entry.mount_id:
                raise errors.Busy(f"{entry.target}: was mounted or unmounted just now; try again")
            yield opened

    def mounts_below(self, path: Path) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount at or below the path, which may be `base`; hidden mounts too."""
        real = self._real_base if path == self._base else self._real(path)
        return tuple(e for e in self.all_mounts() if e.target == real or real in e.target.parents)

    def all_mounts(self) -> tuple[mountinfo.MountEntry, ...]:
        """Return every mount that this process sees."""
        return mountinfo.parse(_mountinfo())

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
                if _UNKNOWN in error.stderr:
                    error.add_note(_kernel_message(fs_type))
                raise

    def bind(self, source: Path, target: Path, *, readonly: bool) -> None:
        """Bind the source to the target; a read-only bind is read-only from its first moment.

        Args:
            source: a directory or a bound device below `base`, or a device's node outside `base`.
            target: an existing directory, or for a device an existing file.
            readonly: refuse writes through this mount. This does not protect the data of a device;
                to protect it, map the device read-only.

        Raises:
            NotFound: the source or the target does not exist.
            Failed: the kernel refuses; the error has its message.
        """
        with (
            self._opened_source(source) as (fd, kind),
            paths.open_target(target, self._base, kind) as opened,
        ):
            try:
                bind = mount_calls.bind_readonly if readonly else mount_calls.bind
                bind(fd, opened.fd)
            except OSError as error:
                raise _bind_error(target, error, readonly) from error

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

    @contextlib.contextmanager
    def _opened_source(self, source: Path) -> Iterator[tuple[int, paths.Kind]]:
        if self._base in source.parents:
            with paths.open_target(source, self._base) as opened:
                yield opened.fd, opened.kind
            return
        try:
            fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise errors.NotFound(f"{source}: cannot be bound: {error.strerror}") from error
        try:
            yield fd, "file"
        finally:
            os.close(fd)

    def _unmount_top(self, target: Path, entry: mountinfo.MountEntry, seconds: float) -> None:
        with paths.open_parent(target, self._base) as parent:
            path = f"/proc/self/fd/{parent}/{target.name}"
            try:
                if mountinfo.is_last(entry, self.all_mounts()):
                    argv, step = (*_UMOUNT, "--", path), f"unmounting {target}"
                    command.run(argv, seconds=seconds, pass_fds=(parent,), step=step)
                else:
                    mount_calls.unmount(path)
            except (command.CommandFailed, OSError) as error:
                if self.mount_at(target) != entry:
                    return  # another process unmounted it just now
                raise self._busy_error(target, entry, error) from error

    def _busy_error(
        self, target: Path, entry: mountinfo.MountEntry, error: command.CommandFailed | OSError
    ) -> errors.Busy:
        reason = (
            error.stderr.strip() if isinstance(error, command.CommandFailed) else error.strerror
        )
        users = processes.users_of_path(self._real(target)) or processes.HIDDEN_USER
        return errors.Busy(
            f"{target}: cannot be unmounted ({reason}), {entry.source} is in use by "
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


def _bind_error(target: Path, error: OSError, readonly: bool) -> errors.Failed:
    how = " read-only" if readonly else ""
    cure = "; this needs Linux 5.12 or later" if error.errno == errno.ENOSYS else ""
    return errors.Failed(f"{target}: cannot be bound{how}: {error.strerror}{cure}")


def _journal_message(device: Path, fs_type: str) -> str:
    return (
        f"{device}: {fs_type} was not unmounted in order, so its journal must be replayed before "
        "it is mounted, which a read-only attachment cannot do; attach the volume once "
        "read-write, then read-only again"
    )


def _mountinfo() -> str:
    return os.fsdecode(_MOUNTINFO.read_bytes())


def _kernel_message(fs_type: str) -> str:
    return (
        f"this node's kernel {os.uname().release} does not mount this {fs_type} with these "
        "options; `dmesg` names the feature or option. A filesystem with features of a newer "
        "kernel needs a node with such a kernel"
    )


def _mount_id(fd: int) -> int:
    fields = Path(f"/proc/self/fdinfo/{fd}").read_text().split()
    return int(fields[fields.index("mnt_id:") + 1])
