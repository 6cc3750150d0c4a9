"""The krbd mapper: the kernel's own driver, spoken to through /sys/bus/rbd. For production.

The interface is described in the kernel's Documentation/ABI/testing/sysfs-bus-rbd. A write to `add`
returns when the kernel has the disk; its node in /dev is waited for by the kernel's events.
"""

import errno
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host import undo
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import sysfs, udev
from rbdcsi.host.mappers import interface, krbd_options
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.model import image_layout
from rbdcsi.runtime import deadlines

_CURE = "take the mapper nbd for it (StorageClass: mounter), or `rbd feature disable` {}"
_SEE_LOG = "`dmesg` has the kernel's own words"
_WORDS: dict[int, tuple[type[errors.RbdCsiError], str]] = {
    errno.ENOENT: (errors.NotFound, "pool, namespace or image does not exist"),
    errno.EINVAL: (errors.InvalidRequest, f"it does not take an option or monitor; {_SEE_LOG}"),
    errno.ENXIO: (
        errors.Refused,
        "the image has features that this kernel does not know; "
        f"{_CURE.format('those that the log names')}; {_SEE_LOG}",
    ),
    errno.EROFS: (
        errors.Refused,
        "/sys is read-only; run the node plugin privileged, with the host's /sys writable",
    ),
    errno.EACCES: (errors.Unauthenticated, "Ceph does not accept user and key"),
    errno.EPERM: (errors.Forbidden, "Ceph or the host does not allow it; look at the user's caps"),
    errno.ESHUTDOWN: (errors.Refused, "Ceph has blocklisted this host"),
    errno.ETIMEDOUT: (errors.Unavailable, "the monitors do not answer"),
    errno.EIO: (errors.Unavailable, f"the cluster does not answer; {_SEE_LOG}"),
}


class Krbd:
    """Works on the rbd bus below `root` (`/sys`), with nodes in `/dev`."""

    name = "krbd"
    tells_client = True

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root
        self._bus = root / "bus/rbd"

    def unsupported(self, image: Image | None = None) -> str | None:
        if not self._bus.exists():
            return "the kernel module rbd is not loaded; `modprobe rbd` on the host"
        if not os.access(self._verb("add"), os.W_OK):  # says no on a read-only mount, to root too
            return f"{self._verb('add')} cannot be written: {_WORDS[errno.EROFS][1]}"
        return self._unknown_feature(image) if image else None

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        with deadlines.within(deadlines.remaining(seconds)):
            if found := interface.adoptable(self, image, readonly=readonly):
                return found
            line = krbd_options.map_line(image, access, readonly=readonly, options=options)
            key = sysfs.Key(krbd_options.key_name(access), access.key)
            _write(self._verb("add"), line, f"{image}: krbd cannot map it", seconds, key)
            return self._mapped(image, seconds)

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        with deadlines.within(deadlines.remaining(seconds)):
            for found in self.list():
                if interface.same_image(found, device):
                    self._unmap(found, force, seconds)

    def list(self) -> tuple[MappedDevice, ...]:
        """Return the mapped images; mapped snapshots, which are read-only, are none of ours."""
        entries = sorted(self._bus.glob("devices/*"), key=lambda entry: int(entry.name))
        return tuple(self._device(e) for e in entries if sysfs.read(e / "current_snap") == "-")

    def resized(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """Have the kernel look at the image's header now; it would by itself, some time later."""
        with deadlines.within(deadlines.remaining(seconds)):
            devices.require_growth(device.path, size)
            refresh = self._bus / "devices" / _number(device) / "refresh"
            _write(refresh, "1", f"{device.path}: krbd cannot refresh it", seconds)
            devices.wait_for_size(device.path, size, seconds=seconds)

    def _mapped(self, image: Image, seconds: float) -> MappedDevice:
        """Return the new device, by the ids that the kernel has read: names may have moved."""
        if found := interface.find(self, image):
            if not udev.wait_until(found.path.is_block_device, seconds=seconds):
                raise errors.Failed(
                    f"{found.path}: the kernel has mapped {image} so, but there is no such node; "
                    "the node plugin needs the host's /dev"
                )
            return found
        error = errors.NotFound(f"{image}: no longer the image of id {image.image_id}")
        for entry in self._bus.glob("devices/*"):
            if _names(entry) == (image.pool, image.namespace, image.image_name):
                with undo.after(error, f"unmapping /dev/rbd{entry.name}"):
                    self._unmap(self._device(entry), False, undo.UNDO_SECONDS)
        raise error

    def _unmap(self, device: MappedDevice, force: bool, seconds: float) -> None:
        if force:
            devices.require_unused(device.path)  # the kernel would not look with `force`
        line = f"{_number(device)} force" if force else _number(device)
        try:
            what = f"{device.path}: krbd cannot unmap it"
            _write(self._verb("remove"), line, what, seconds)
        except errors.NotFound:
            return  # somebody else unmapped it meanwhile
        except errors.Busy as error:
            raise devices.in_use(device.path) from error

    def _unknown_feature(self, image: Image) -> str | None:
        known = sysfs.read(self._bus / "supported_features")
        unknown = image.features & ~int(known, 16) if known else 0
        if not unknown:
            return None
        named = ", ".join(image_layout.names(unknown))
        return f"its feature {named} is unknown to this kernel; {_CURE.format(named)}"

    def _verb(self, name: str) -> Path:
        single_major = self._bus / f"{name}_single_major"  # there if the module works so
        return single_major if single_major.exists() else self._bus / name

    def _device(self, entry: Path) -> MappedDevice:
        name = f"rbd{entry.name}"
        return MappedDevice(
            path=Path("/dev") / name,
            mapper=self.name,
            fsid=sysfs.read(entry / "cluster_fsid"),
            pool_id=int(sysfs.read(entry / "pool_id") or -1),
            namespace=sysfs.read(entry / "pool_ns") or "",
            image_id=sysfs.read(entry / "image_id") or "",
            readonly=sysfs.read(self._root / "block" / name / "ro") == "1",
            client=sysfs.read(entry / "client_addr"),
        )


def _names(entry: Path) -> tuple[str | None, ...]:
    return (
        sysfs.read(entry / "pool"),
        sysfs.read(entry / "pool_ns") or "",
        sysfs.read(entry / "name"),
    )


def _number(device: MappedDevice) -> str:
    return device.path.name.removeprefix("rbd")


def _write(file: Path, text: str, what: str, seconds: float, key: sysfs.Key | None = None) -> None:
    try:
        sysfs.write(file, text, seconds=seconds, key=key)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise errors.Busy(f"{what}: it is in use") from error
        unexpected = (errors.Failed, f"{error.strerror}; {_SEE_LOG}")
        kind, words = _WORDS.get(error.errno or 0, unexpected)
        raise kind(f"{what}: {words}") from error
