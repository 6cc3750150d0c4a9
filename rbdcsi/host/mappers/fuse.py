"""The fuse mapper: qemu-storage-daemon shows the image as a file, a loop device makes it a disk.

It needs no kernel module but fuse and loop, so that demo, CI and laptops run the real thing. NOT
for production: each write passes user space twice, and in a container that ends, so does the
daemon, unless it has a control group of its own. What it holds is safe: nothing is cached on the
way, a flush is Ceph's.
"""

import shutil
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.host import command, undo
from rbdcsi.host.block import devices, loop
from rbdcsi.host.fs import mounts
from rbdcsi.host.kernel import cgroup
from rbdcsi.host.mappers import interface, state_dir, storage_daemon
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.runtime import deadlines

_log = structlog.get_logger()

_TOOLS = (storage_daemon.PROGRAM, "losetup", "mount", "umount")
_LOOP = "loop"  # names the loop device: a daemon that ends in order takes its file away
_ORDERLY_SECONDS = 5.0
_DEVICES = ("/dev/fuse", "/dev/loop-control")


class Fuse:
    """Keeps a directory for each image below `state`, which must be short: a socket is in it.

    The daemons run in the control group.
    """

    name = "fuse"
    tells_client = False  # librbd does not say its address

    def __init__(self, state: Path, group: Path | None = None) -> None:
        self._group = group
        self._states = state_dir.States(state)
        self._mounts = mounts.Mounts(self._states.root)

    def unsupported(self, image: Image | None = None) -> str | None:  # noqa: ARG002  librbd knows all
        missing = [tool for tool in _TOOLS if not shutil.which(tool)]
        if missing:
            return f"{', '.join(missing)}: not installed"
        absent = [device for device in _DEVICES if not Path(device).exists()]
        if absent:
            return f"{', '.join(absent)}: not there; load the kernel modules fuse and loop"
        return cgroup.unusable(self._group)

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        with deadlines.within(deadlines.remaining(seconds)):
            found = interface.adoptable(self, image, readonly=readonly)
            if found and not found.fault:
                return found
            directory = self._states.directory(image)
            self._clear(directory, force=True, seconds=seconds)  # what a crash left half-made
            try:
                return self._map(image, access, readonly, options, seconds)
            except errors.RbdCsiError as error:
                with undo.after(error, f"clearing {directory}"):
                    self._clear(directory, force=True, seconds=undo.UNDO_SECONDS)
                raise

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        """Unmap; with `force` a daemon that does not end in order soon is killed.

        Killed at once, it would leave its watch and its lock in Ceph, so that the volume could not
        be detached for half a minute.
        """
        directory = self._states.directory(device)
        with deadlines.within(deadlines.remaining(seconds)):
            if force:
                try:
                    with deadlines.within(deadlines.remaining(_ORDERLY_SECONDS)):
                        return self._clear(directory, force=False, seconds=_ORDERLY_SECONDS)
                except (errors.Busy, errors.DeadlineExceeded) as error:
                    _log.info("unmapping by force", device=str(device.path), error=str(error))
            return self._clear(directory, force=force, seconds=seconds)

    def list(self) -> tuple[MappedDevice, ...]:
        return tuple(
            self._device(directory, record, storage_daemon.answers(directory))
            for directory, record in self._states.records()
        )

    def resized(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        with deadlines.within(deadlines.remaining(seconds)):
            devices.require_growth(device.path, size)
            directory = self._states.directory(device)
            storage_daemon.resize(directory, size, seconds=seconds)
            file = str(storage_daemon.file_in(directory))
            # the loop device takes the size that the kernel has cached, so it is asked for anew
            command.run(("stat", "--cached=never", "--", file), seconds=seconds)
            loop.take_size(device.path, seconds=seconds)
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

    def _clear(self, directory: Path, *, force: bool, seconds: float) -> None:
        """Take everything of the directory down, in the order in which nothing is lost."""
        if not directory.exists():
            return
        file = storage_daemon.file_in(directory)
        if device := _loop_in(directory):
            if force:  # outstanding I/O ends with errors, instead of holding back the detach
                devices.require_unused(device)
                storage_daemon.stop(directory, force=True, seconds=seconds)
            loop.detach(device, file, seconds=seconds)
        storage_daemon.stop(directory, force=force, seconds=seconds)
        self._mounts.unmount(file, seconds=seconds)
        self._states.remove(directory)

    def _device(self, directory: Path, record: state_dir.Record, answers: bool) -> MappedDevice:
        device = _loop_in(directory)
        path = device or storage_daemon.file_in(directory)
        return record.device(self.name, path, _fault(device is not None, answers))


def _loop_in(directory: Path) -> Path | None:
    noted = directory / _LOOP
    before = Path(noted.read_text()) if noted.exists() else None
    return loop.of_file(storage_daemon.file_in(directory), before)


def _fault(has_device: bool, is_running: bool) -> str | None:
    match has_device, is_running:
        case True, True:
            return None
        case False, True:
            return "it was never mapped to the end: it has no loop device yet"
        case True, False:
            return f"its {storage_daemon.PROGRAM} has ended, so its I/O fails; unmap it, map anew"
        case _:
            return "only its directory is left, as after a reboot"
