"""The krbd mapper: uses the kernel's own driver through /sys/bus/rbd. For production.

The kernel's Documentation/ABI/testing/sysfs-bus-rbd describes the interface. A write to `add`
returns when the kernel has the disk; the mapper then waits, by the kernel's events, for its node in
/dev.
"""

import errno
import os
from pathlib import Path

from rbdcsi import errors
from rbdcsi.config import keys
from rbdcsi.host import undo
from rbdcsi.host.block import devices
from rbdcsi.host.kernel import sysfs, udev
from rbdcsi.host.mappers import interface, krbd_options
from rbdcsi.host.mappers.interface import Access, Image, MappedDevice
from rbdcsi.model import image_layout
from rbdcsi.runtime import deadlines

_CURE = "use the mapper nbd (StorageClass: mounter: nbd), or run `rbd feature disable` for {}"
_SEE_LOG = "`dmesg` has the kernel's message"
_ERRORS: dict[int, tuple[type[errors.RbdCsiError], str]] = {
    errno.ENOENT: (
        errors.NotFound,
        "pool, namespace or image does not exist; look with `rbd info`",
    ),
    errno.EINVAL: (
        errors.InvalidRequest,
        f"the kernel does not accept a map option or a monitor address; {_SEE_LOG}",
    ),
    errno.ENXIO: (
        errors.Refused,
        "the image has features that this kernel does not support; "
        f"{_CURE.format('the features that the log names')}; {_SEE_LOG}",
    ),
    errno.EROFS: (
        errors.Refused,
        "/sys is read-only; run the node plugin privileged, with the host's /sys writable",
    ),
    errno.EACCES: (
        errors.Unauthenticated,
        "Ceph does not accept the user and key; compare them with `ceph auth get`",
    ),
    errno.EPERM: (
        errors.Forbidden,
        "Ceph or the host does not allow it; check the user's capabilities with `ceph auth get`",
    ),
    errno.ESHUTDOWN: (
        errors.Refused,
        "Ceph has blocklisted this host; look with `ceph osd blocklist ls`",
    ),
    errno.ETIMEDOUT: (
        errors.Unavailable,
        "the monitors do not answer; check the addresses and the network of this host",
    ),
    errno.EIO: (errors.Unavailable, f"the cluster does not answer; {_SEE_LOG}"),
}


class Krbd:
    """Maps through the rbd bus below `root` (`/sys`), with device nodes in `/dev`."""

    name = "krbd"

    def __init__(self, root: Path = Path("/sys")) -> None:
        self._root = root
        self._bus = root / "bus/rbd"

    def unsupported(self, image: Image | None = None) -> str | None:
        """See Mapper.unsupported."""
        if not self._bus.exists():
            return "the kernel module rbd is not loaded; run `modprobe rbd` on the host"
        if not os.access(self._file("add"), os.W_OK):  # false on a read-only mount, also for root
            return f"{self._file('add')} cannot be written: {_ERRORS[errno.EROFS][1]}"
        return self._unsupported_features(image) if image else None

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        """See Mapper.map."""
        with deadlines.within(deadlines.remaining(seconds)):
            others = {device.client for device in self.list()}
            line = krbd_options.map_line(image, access, readonly=readonly, options=options)
            key = sysfs.Key(krbd_options.key_name(access), access.key) if access.key else None
            try:
                _write(self._file("add"), line, f"{image}: krbd cannot map it", seconds, key)
            except errors.RbdCsiError as error:
                if remark := keys.remark(access.key):
                    error.add_note(remark)
                raise
            return self._mapped(image, others, seconds)

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        """See Mapper.unmap."""
        with deadlines.within(deadlines.remaining(seconds)):
            if device in self.list():
                self._unmap(device, force, seconds)

    def discard(self, device: MappedDevice, *, seconds: float) -> None:
        """See Mapper.discard. With `force` the kernel does not check for users."""
        with deadlines.within(deadlines.remaining(seconds)):
            if device in self.list():
                self._remove(device, f"{_number(device)} force", seconds)

    def list(self) -> tuple[MappedDevice, ...]:
        """Return the mapped images. Mapped snapshots are left out: the driver maps none."""
        entries = sorted(self._bus.glob("devices/*"), key=lambda entry: int(entry.name))
        return tuple(self._device(e) for e in entries if sysfs.read(e / "current_snap") == "-")

    def update_size(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """Make the kernel read the image's header now instead of later. See Mapper.update_size."""
        with deadlines.within(deadlines.remaining(seconds)):
            devices.require_growth(device.path, size)
            refresh = self._bus / "devices" / _number(device) / "refresh"
            _write(refresh, "1", f"{device.path}: krbd cannot refresh it", seconds)
            devices.wait_for_size(device.path, size, seconds=seconds)

    def _mapped(self, image: Image, others: set[str | None], seconds: float) -> MappedDevice:
        """Return the new device, by the ids that the kernel read.

        Another image may have taken the name just before. The image may have devices of other
        programs, whose clients are among `others`.
        """
        new_devices = [device for device in self.list() if device.client not in others]
        same = [device for device in new_devices if interface.same_image(device, image)]
        if len(same) > 1:
            raise errors.Busy(
                f"{image}: another program mapped it at the same moment, so it is not known which "
                f"of {', '.join(str(device.path) for device in same)} is whose; unmap the other one"
            )
        for device in same:
            if not udev.wait_until(device.path.is_block_device, seconds=seconds):
                raise errors.Failed(
                    f"{device.path}: the kernel has mapped {image} to this device, but its node "
                    "does not exist; mount the host's /dev into the node plugin"
                )
            return device
        error = errors.NotFound(
            f"{image}: must have id {image.image_id}, but another image has this name now; repeat "
            "the call"
        )
        for device in new_devices:
            entry = self._bus / "devices" / _number(device)
            if _names(entry) == (image.pool, image.namespace, image.image_name):
                with undo.after(error, f"unmapping {device.path}"):
                    self._unmap(device, False, undo.UNDO_SECONDS)
        raise error

    def _unmap(self, device: MappedDevice, force: bool, seconds: float) -> None:
        if force:
            devices.require_unused(device.path)  # with `force` the kernel does not check for users
        self._remove(device, f"{_number(device)} force" if force else _number(device), seconds)

    def _remove(self, device: MappedDevice, line: str, seconds: float) -> None:
        try:
            _write(self._file("remove"), line, f"{device.path}: krbd cannot unmap it", seconds)
        except errors.NotFound:
            return  # another process unmapped it just now
        except errors.Busy as error:
            raise devices.in_use_error(device.path) from error

    def _unsupported_features(self, image: Image) -> str | None:
        supported = sysfs.read(self._bus / "supported_features")
        unsupported = image.features & ~int(supported, 16) if supported else 0
        if not unsupported:
            return None
        names = ", ".join(image_layout.names(unsupported))
        return f"this kernel does not support the image's feature {names}; {_CURE.format(names)}"

    def _file(self, name: str) -> Path:
        single_major = self._bus / f"{name}_single_major"  # exists if the module uses one major
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


def _write(
    file: Path, text: str, failure: str, seconds: float, key: sysfs.Key | None = None
) -> None:
    try:
        sysfs.write(file, text, seconds=seconds, key=key)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise errors.Busy(f"{failure}: it is in use; repeat the call") from error
        unexpected = (errors.Failed, f"{error.strerror}; {_SEE_LOG}")
        kind, message = _ERRORS.get(error.errno or 0, unexpected)
        raise kind(f"{failure}: {message}") from error
