"""The nbd mapper: rbd-nbd serves the image to the kernel's nbd driver, set up over netlink.

For images with features that krbd does not support. Neither the kernel nor rbd-nbd knows an image's
ids, so the mapper keeps them in a record for each image (`state_dir`). A device is that of a record
if its rbd-nbd was started with the configuration beside the record. An rbd-nbd that hangs before it
has a device outlives its plugin, too; by its lock on the directory it is found and ended.
"""

import contextlib
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, undo
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import cgroup, memfd, nbd_netlink, sysfs
from rbdcsi.host.mappers import daemons, interface, state_dir
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.model import map_options
from rbdcsi.runtime import deadlines

_PAUSE = 0.02  # seconds


class Nbd:
    """Keeps a directory for each image below `state`; rbd-nbd runs in the control group."""

    name = "nbd"

    def __init__(self, state: Path, group: Path | None = None) -> None:
        self._states = state_dir.StateDirectories(state)
        self._group = group

    def unsupported(self, image: Image | None = None) -> str | None:  # noqa: ARG002  any feature works
        """See Mapper.unsupported."""
        if not shutil.which("rbd-nbd"):
            return "rbd-nbd: not installed; install the package rbd-nbd, or use the driver's image"
        if not Path("/sys/module/nbd").exists():
            return "the kernel module nbd is not loaded; run `modprobe nbd` on the host"
        return cgroup.unusable(self._group)

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        """See Mapper.map."""
        with deadlines.within(deadlines.remaining(seconds)):
            _require_usable_names(image)
            directory = self._states.directory(image)
            self._clear(directory, seconds)  # the leftovers of a crash or a reboot
            self._states.create(state_dir.Record(image, readonly))
            try:
                return self._map(directory, image, access, readonly, options, seconds)
            except errors.RbdCsiError as error:
                with undo.after(error, f"unmapping {image}"):
                    self._clear(directory, undo.UNDO_SECONDS)
                raise

    def unmap(
        self,
        device: MappedDevice,
        *,
        force: bool = False,  # noqa: ARG002  every mapper takes it
        seconds: float,
    ) -> None:
        """See Mapper.unmap. `force` changes nothing: rbd-nbd itself drops I/O that Ceph refuses."""
        with deadlines.within(deadlines.remaining(seconds)):
            self._clear(self._states.directory(device), seconds)

    def discard(self, device: MappedDevice, *, seconds: float) -> None:
        """See Mapper.discard."""
        with deadlines.within(deadlines.remaining(seconds)):
            self._clear(self._states.directory(device), seconds, in_use=True)

    def list(self) -> tuple[MappedDevice, ...]:
        """See Mapper.list."""
        records = tuple(self._states.records())
        nbd_devices = connected()
        return tuple(
            record.device(self.name, nbd.path if nbd else directory, _fault(nbd))
            for directory, record in records
            for nbd in (_device_of(directory, nbd_devices),)
        )

    def update_size(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """See Mapper.update_size. Not every rbd-nbd resizes the device by itself."""
        with deadlines.within(deadlines.remaining(seconds)):
            devices.require_growth(device.path, size)
            nbd = _device_of(self._states.directory(device), connected())
            if nbd and nbd.path == device.path and devices.size(device.path) < size:
                nbd_netlink.resize(device.path, size)
            devices.wait_for_size(device.path, size, seconds=seconds)

    def _map(
        self,
        directory: Path,
        image: Image,
        access: Access,
        readonly: bool,
        options: str,
        seconds: float,
    ) -> MappedDevice:
        conf = _conf(directory)
        # rbd-nbd aborts without a run_dir, which a read-only container lacks. It gets no admin
        # socket: it would delete the socket while this mapper removes the directory.
        # librbd's write-around cache forgets the error of a write that it has acknowledged if no
        # write is under way at the next flush (WriteAroundObjectDispatch.cc, flush): a client that
        # was just fenced would report a write as durable that Ceph never took.
        settings = (
            *access.settings,
            f"run_dir = {directory}",
            "admin_socket =",
            "rbd_cache = false",
        )
        conf.write_text("\n".join(("[global]", *settings, "")))
        with memfd.containing(access.secret) as key, daemons.lock(directory) as lock:
            argv = (
                *("rbd-nbd", "map", "--try-netlink", "--conf", str(conf), "--id", access.user),
                *(("--keyfile", memfd.path(key)) if access.key else ()),
                *(*(["--read-only"] if readonly else []), *_flags(options), str(image)),
            )
            command.run(
                cgroup.command_in(self._group, argv),
                seconds=seconds,
                step=f"mapping {image}",
                pass_fds=(key, lock),
                outlives_plugin=True,
            )
        if device := interface.find(self, image):
            return device
        raise errors.Failed(
            f"{image}: rbd-nbd reported success, but /sys/block shows no device of it; repeat the "
            "call"
        )

    def _clear(self, directory: Path, seconds: float, *, in_use: bool = False) -> None:
        if not directory.exists():
            return
        self._states.require_intact(directory)
        _unmap_device(directory, seconds, in_use)
        while daemons.is_locked(directory):
            # After an unmapping, rbd-nbd may still have to write; one that starts has nothing.
            if not _unmapping(directory).exists() and not _unmap_device(directory, seconds, in_use):
                _end_starting(directory)
            try:
                time.sleep(deadlines.remaining(_PAUSE))
            except errors.DeadlineExceeded as error:
                raise errors.Busy(
                    f"{directory}: its rbd-nbd must end, but still runs after {seconds:.0f} s; "
                    "repeat the call when Ceph works again"
                ) from error
        self._states.remove(directory)


@dataclass(frozen=True)
class NbdDevice:
    """A device and the process id of the rbd-nbd that serves it and has it open itself."""

    path: Path
    pid: int


def connected(block: Path = Path("/sys/block")) -> tuple[NbdDevice, ...]:
    """Return the devices that a process serves, as the kernel's driver knows them.

    `rbd-nbd list-mapped` reads the same files, but takes as long to start as all else of a stage.

    Args:
        block: where the kernel shows its block devices.
    """
    files = sorted(block.glob("nbd*/pid"))
    pids = ((file.parent.name, sysfs.read(file)) for file in files)
    return tuple(NbdDevice(Path("/dev", name), int(pid)) for name, pid in pids if pid)


def _conf(directory: Path) -> Path:
    return directory / "ceph.conf"


def _unmapping(directory: Path) -> Path:
    """Return the file that says that the device is being unmapped: rbd-nbd ends by itself then."""
    return directory / "unmapping"


def _device_of(directory: Path, nbd_devices: tuple[NbdDevice, ...]) -> NbdDevice | None:
    """Return the device of this directory's image, by the configuration that its rbd-nbd was given.

    Other programs may have mapped an image of the same name.
    """
    return next((nbd for nbd in nbd_devices if _is_for(nbd.pid, directory)), None)


def _is_for(pid: int, directory: Path) -> bool:
    """Return whether a process was given the configuration in this directory."""
    with contextlib.suppress(OSError):  # it has ended
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return str(_conf(directory)).encode() in line.split(b"\0")
    return False


def _unmap_device(directory: Path, seconds: float, in_use: bool) -> bool:
    """Unmap the directory's device; return False if it has none."""
    nbd = _device_of(directory, connected())
    if nbd is None:
        return False
    if not in_use:
        devices.require_unused(nbd.path, nbd.pid)
    _unmapping(directory).touch()
    command.run(("rbd-nbd", "unmap", str(nbd.path)), seconds=seconds, step=f"unmapping {nbd.path}")
    return True


def _end_starting(directory: Path) -> None:
    """Ask the directory's rbd-nbd to end; it has no device that a call has returned."""
    for pid in daemons.pids():
        if not _is_for(pid, directory):
            continue
        with daemons.watched(pid) as pidfd:
            if pidfd is not None and _is_for(pid, directory):  # the kernel may reuse a pid
                # One that has just got a device disconnects it on SIGTERM.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)


def _require_usable_names(image: Image) -> None:
    names = (image.pool, image.namespace, image.image_name)
    if any(sign in name for name in names for sign in "/@"):
        raise errors.InvalidRequest(
            f"{image}: rbd-nbd cannot map names with '/' or '@'; change the name, or use another "
            "mapper"
        )


def _flags(options: str) -> list[str]:
    pairs = (option.partition("=") for option in map_options.parse("nbd", options))
    return [
        text
        for name, _, value in pairs
        for text in ("--io-timeout" if name == "timeout" else f"--{name}", value)
    ]


def _fault(device: NbdDevice | None) -> str | None:
    return None if device else "no rbd-nbd serves it, as after a reboot"
