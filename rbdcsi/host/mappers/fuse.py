"""The fuse mapper: qemu-storage-daemon exports the image as a file, a loop device makes it a disk.

It needs only the kernel modules fuse and loop, so that demo, CI and laptops use real volumes. NOT
for production: each write passes user space twice, and a daemon without a control group of its own
ends with its container. No data is lost by that: no layer caches writes, and a flush returns when
Ceph has the data.
"""

import contextlib
import os
import shutil
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.host import command, undo
from rbdcsi.host.block import devices, loop
from rbdcsi.host.fs import mounts
from rbdcsi.host.kernel import cgroup
from rbdcsi.host.mappers import state_dir, storage_daemon
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.runtime import deadlines

_log = structlog.get_logger()

_TOOLS = (storage_daemon.PROGRAM, "losetup", "mount", "umount")
_LOOP = "loop"  # the file with the loop device's name: a daemon that ends removes its export
_TERMINATE_SECONDS = 5.0  # for a daemon to end before `force` kills it
_DEVICES = ("/dev/fuse", "/dev/loop-control")


class Fuse:
    """Keeps a directory for each image below `state`; the daemons run in the control group.

    The path of `state` must be short, because it has a unix socket below it.
    """

    name = "fuse"

    def __init__(self, state: Path, group: Path | None = None) -> None:
        self._group = group
        self._states = state_dir.StateDirectories(state)
        self._mounts = mounts.Mounts(self._states.root)

    def unsupported(self, image: Image | None = None) -> str | None:  # noqa: ARG002  any feature works
        """See Mapper.unsupported."""
        missing = [tool for tool in _TOOLS if not shutil.which(tool)]
        if missing:
            return f"{', '.join(missing)}: not installed; install it, or use the driver's image"
        absent = [device for device in _DEVICES if not Path(device).exists()]
        if absent:
            return (
                f"{', '.join(absent)}: does not exist; load the kernel modules fuse and loop, and "
                "mount the host's /dev into the node plugin"
            )
        return cgroup.unusable(self._group)

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        """See Mapper.map."""
        with deadlines.within(deadlines.remaining(seconds)):
            directory = self._states.directory(image)
            self._end(directory, seconds)  # the leftovers of a crash
            try:
                return self._map(image, access, readonly, options, seconds)
            except errors.RbdCsiError as error:
                with undo.after(error, f"clearing {directory}"):
                    self._end(directory, undo.UNDO_SECONDS)
                raise

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        """See Mapper.unmap. With `force`, the daemon is killed if it does not end soon."""
        directory = self._states.directory(device)
        with deadlines.within(deadlines.remaining(seconds)):
            if force:
                self._end(directory, seconds)
            else:
                self._clear(directory, force=False, seconds=seconds)

    def discard(self, device: MappedDevice, *, seconds: float) -> None:
        """See Mapper.discard. The kernel frees the loop device when its last user closes it."""
        directory = self._states.directory(device)
        with deadlines.within(deadlines.remaining(seconds)):
            storage_daemon.stop(directory, force=True, seconds=seconds)
            if loop_device := _loop_in(directory):
                loop.detach_at_last_close(loop_device, seconds=seconds)
            self._mounts.detach(storage_daemon.file_in(directory), seconds=seconds)
            if directory.exists():
                self._states.remove(directory)

    def list(self) -> tuple[MappedDevice, ...]:
        """See Mapper.list."""
        return tuple(
            self._device(directory, record, storage_daemon.answers(directory))
            for directory, record in self._states.records()
        )

    def update_size(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """See Mapper.update_size."""
        with deadlines.within(deadlines.remaining(seconds)):
            devices.require_growth(device.path, size)
            directory = self._states.directory(device)
            storage_daemon.resize(directory, size, seconds=seconds)
            file = str(storage_daemon.file_in(directory))
            # The loop device takes the file's size from the kernel's cache: refresh that first.
            argv = ("stat", "--cached=never", "--", file)
            command.run(argv, seconds=seconds, step=f"reading the size of {file}")
            loop.update_size(device.path, seconds=seconds)
            devices.wait_for_size(device.path, size, seconds=seconds)

    def _map(
        self, image: Image, access: Access, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        record = state_dir.Record(image, readonly)
        directory = self._states.create(record)
        storage_daemon.start(
            directory,
            image,
            access,
            readonly=readonly,
            options=options,
            group=self._group,
            seconds=seconds,
        )
        device = loop.attach(storage_daemon.file_in(directory), readonly=readonly, seconds=seconds)
        (directory / _LOOP).write_text(str(device))
        return self._device(directory, record, answers=True)

    def _end(self, directory: Path, seconds: float) -> None:
        """Stop and remove everything of the directory; kill its daemon if it does not end soon.

        A daemon that is killed at once would leave its watch and its lock in Ceph for half a
        minute.
        """
        try:
            with deadlines.within(deadlines.remaining(_TERMINATE_SECONDS)):
                return self._clear(directory, force=False, seconds=_TERMINATE_SECONDS)
        except (errors.Busy, errors.DeadlineExceeded) as error:
            _log.info("killing a daemon", directory=str(directory), error=str(error))
        return self._clear(directory, force=True, seconds=seconds)

    def _clear(self, directory: Path, *, force: bool, seconds: float) -> None:
        """Stop and remove everything of the directory, in an order that loses no data."""
        if not directory.exists():
            return
        file = storage_daemon.file_in(directory)
        if device := _loop_in(directory):
            if force:  # outstanding I/O then ends with errors and does not delay the detach
                devices.require_unused(device)
                storage_daemon.stop(directory, force=True, seconds=seconds)
            loop.detach(device, file, seconds=seconds)
        storage_daemon.stop(directory, force=force, seconds=seconds)
        self._mounts.unmount(file, seconds=seconds)
        self._states.remove(directory)

    def _device(self, directory: Path, record: state_dir.Record, answers: bool) -> MappedDevice:
        device = _loop_in(directory)
        path = device or storage_daemon.file_in(directory)
        if device and answers and loop.is_ending(device):  # `unmap` found it in use
            return record.device(self.name, path, "it ends when its last user closes it")
        return record.device(self.name, path, _fault(device is not None, answers))


def _loop_in(directory: Path) -> Path | None:
    former_device = None
    with contextlib.suppress(OSError):  # none yet, or another call removed the directory just now
        former_device = Path(os.fsdecode((directory / _LOOP).read_bytes()))
    return loop.device_of_file(storage_daemon.file_in(directory), former_device)


def _fault(has_device: bool, is_running: bool) -> str | None:
    match has_device, is_running:
        case True, True:
            return None
        case False, True:
            return "its mapping was interrupted: it has no loop device"
        case True, False:
            return f"its {storage_daemon.PROGRAM} has ended, so its I/O fails"
        case _:
            return "it has neither a daemon nor a loop device, as after a reboot"
