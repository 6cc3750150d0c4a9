"""The nbd mapper: rbd-nbd serves the image to the kernel's nbd driver, set up over netlink.

For images with features that krbd does not know. rbd-nbd tells images by the names that they had
when they were mapped; which ids these were is kept in a record for each image (`state`).
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import command, undo
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import cgroup, memfd
from rbdcsi.host.mappers import interface, state_dir
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.runtime import deadlines

_LIST_SECONDS = 10.0
_OPTIONS = ("io-timeout", "reattach-timeout")  # not quiesce-hook: it names a program


class Nbd:
    """Keeps a directory for each image below `state`; rbd-nbd runs in the control group."""

    name = "nbd"
    tells_client = False  # librbd does not say its address

    def __init__(self, state: Path, group: Path | None = None) -> None:
        self._states = state_dir.States(state)
        self._group = group

    def unsupported(self, image: Image | None = None) -> str | None:  # noqa: ARG002  librbd knows all
        if not shutil.which("rbd-nbd"):
            return "rbd-nbd: not installed (package rbd-nbd)"
        if not Path("/sys/module/nbd").exists():
            return "the kernel module nbd is not loaded; `modprobe nbd` on the host"
        return cgroup.unusable(self._group)

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        with deadlines.within(deadlines.remaining(seconds)):
            found = interface.adoptable(self, image, readonly=readonly)
            if found and not found.fault:
                return found
            directory = self._states.directory(image)
            if directory.exists():  # what a crash or a reboot left
                self._states.remove(directory)
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
        """Unmap; `force` is without effect, rbd-nbd drops what Ceph refuses."""
        with deadlines.within(deadlines.remaining(seconds)):
            self._clear(self._states.directory(device), seconds)

    def list(self) -> tuple[MappedDevice, ...]:
        records = tuple(self._states.records())
        served = _served() if records else {}  # without any, rbd-nbd need not be installed
        return tuple(
            record.device(self.name, found.device if found else directory, _fault(found))
            for directory, record in records
            for found in (served.get(_spec(record.image)),)
        )

    def resized(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """Wait: rbd-nbd watches the image's header and tells the kernel by itself."""
        devices.require_growth(device.path, size)
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
        conf = directory / "ceph.conf"
        # Without a run_dir that is there, as in a read-only container, rbd-nbd aborts; nobody asks
        # its admin socket, and it would go while the directory is removed.
        settings = (f"mon_host = {access.monitors}", f"run_dir = {directory}", "admin_socket =")
        conf.write_text("\n".join(("[global]", *settings, "")))
        with memfd.holding(access.key.reveal()) as key:
            argv = (
                *("rbd-nbd", "map", "--try-netlink", "--conf", str(conf), "--id", access.user),
                *("--keyfile", memfd.path(key), *(["--read-only"] if readonly else [])),
                *(*_flags(options), _spec(image)),
            )
            command.run(cgroup.inside(self._group, argv), seconds=seconds, pass_fds=(key,))
        if device := interface.find(self, image):
            return device
        raise errors.Failed(f"{image}: rbd-nbd reports success, yet does not list it")

    def _clear(self, directory: Path, seconds: float) -> None:
        record = dict(self._states.records()).get(directory)
        if record and (found := _served().get(_spec(record.image))):
            devices.require_unused(found.device, found.pid)
            command.run(("rbd-nbd", "unmap", str(found.device)), seconds=seconds)
            if _spec(record.image) in _served():
                raise errors.Busy(f"{found.device}: rbd-nbd has not let go yet; repeat the call")
        if directory.exists():
            self._states.remove(directory)


@dataclass(frozen=True)
class Served:
    """A device, and the rbd-nbd behind it, which has the device open itself."""

    device: Path
    pid: int


def parse(listed: str) -> dict[str, Served]:
    """Return what is served by image, from `rbd-nbd list-mapped --format json`; no snapshots."""
    return {
        "/".join(filter(None, (entry["pool"], entry["namespace"], entry["image"]))): Served(
            Path(entry["device"]), entry["id"]
        )
        for entry in json.loads(listed or "[]")
        if entry["snap"] in ("", "-")
    }


def _served() -> dict[str, Served]:
    argv = ("rbd-nbd", "list-mapped", "--format", "json")
    return parse(command.run(argv, seconds=_LIST_SECONDS).text)


def _spec(image: Image) -> str:
    """Return the image as rbd-nbd is told it, and lists it."""
    if any(
        sign in name for name in (image.pool, image.namespace, image.image_name) for sign in "/@"
    ):
        raise errors.InvalidRequest(f"{image}: rbd-nbd cannot map a name with '/' or '@'")
    return str(image)


def _flags(options: str) -> list[str]:
    flags = []
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name not in _OPTIONS:
            raise errors.InvalidRequest(
                f"map option {option!r} of the nbd mapper: must be one of {', '.join(_OPTIONS)}"
            )
        flags += [f"--{name}", value] if value else [f"--{name}"]
    return flags


def _fault(found: Served | None) -> str | None:
    return None if found else "no rbd-nbd serves it, as after a reboot; unmap it, map anew"
