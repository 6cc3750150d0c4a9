"""Mappers: what turns an RBD image into a block device of this host.

`krbd` is the kernel's driver, `nbd` runs rbd-nbd, `fuse` needs no kernel module; `choice` picks.
What is mapped is found again from the kernel and the mapper's own state, by the image's id.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rbdcsi import errors
from rbdcsi.config.secret import Secret


@dataclass(frozen=True)
class Image:
    """The image to map; the ids are its identity, the names are how Ceph's tools are told.

    `features` is the mask of what a client must know to write to it; 0 if nobody has looked.
    """

    fsid: str
    pool_id: int
    pool: str
    namespace: str
    image_id: str
    image_name: str
    features: int = 0

    def __str__(self) -> str:
        return f"{'/'.join(filter(None, (self.pool, self.namespace, self.image_name)))}"


@dataclass(frozen=True)
class Access:
    """How to reach the cluster: monitors as in ceph.conf's mon_host, user without `client.`."""

    monitors: str
    user: str
    key: Secret


@dataclass(frozen=True)
class MappedDevice:
    """An image as a block device of this host.

    `fsid` is None where the mapper cannot know it. `client` is the Ceph client (`ip:port/nonce`)
    if it is known exactly. `fault` says why the device cannot be used any more (it can still be
    unmapped); None is a device that works as far as the host knows.
    """

    path: Path
    mapper: str
    fsid: str | None
    pool_id: int
    namespace: str
    image_id: str
    readonly: bool
    client: str | None = None
    fault: str | None = None

    def is_of(self, image: Image) -> bool:
        """Tell whether this device is that image, by ids."""
        return same_image(self, image)


class Mapper(Protocol):
    """What every mapper can do. All of it may be repeated; times are in seconds."""

    @property
    def name(self) -> str:
        """`krbd`, `nbd` or `fuse`."""

    @property
    def tells_client(self) -> bool:
        """Whether the devices have their `client`; where not, the image's watchers tell it."""

    def unsupported(self, image: Image | None = None) -> str | None:
        """Return why this host cannot map so (the cause and its cure), or None if it can.

        Args:
            image: whether it can map this one, with its features, for writing; None: any.
        """

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        """Map the image, or adopt the device that it already has.

        Args:
            image: what to map.
            access: monitors, user and key.
            readonly: refuse writes below the file system.
            options: the mapper's own options, comma separated; empty for none.
            seconds: how long it may take.

        Raises:
            Refused: mapped already with another `readonly`, or this host cannot map it.
            NotFound: the image does not exist (where the mapper can tell).
            InvalidRequest: an option that this mapper does not know.
            DeadlineExceeded: no device in time; what was begun is undone or adopted by a repeat.
            Failed: anything else, in the words of the kernel or the tool.
        """

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        """Unmap; a device that is not mapped is fine. Never lazy: OK means that it is gone.

        Args:
            device: as `map` or `list` returned it.
            force: do not wait for outstanding I/O (a fenced client); it ends with errors.
                A device in use is refused all the same.
            seconds: how long it may take.

        Raises:
            Busy: it is mounted or open; the message says by whom. Repeat when it is not.
            Failed, DeadlineExceeded: see `map`.
        """

    def list(self) -> tuple[MappedDevice, ...]:
        """Return what this mapper has mapped on this host, by whomever, half-made ones too."""

    def resized(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """Make the device take the image's new size, and wait until it has.

        Args:
            device: as `map` or `list` returned it.
            size: the image's size in bytes, as Ceph gives it now; a smaller one is refused.
            seconds: how long it may take.

        Raises:
            Refused: `size` is below the device's.
            DeadlineExceeded: the device did not take the size in time.
        """


def same_image(device: MappedDevice, other: Image | MappedDevice) -> bool:
    """Tell whether both are of one image, by ids; a cluster that is not known fits any."""
    ours, theirs = ((found.pool_id, found.namespace, found.image_id) for found in (device, other))
    return ours == theirs and (None in (device.fsid, other.fsid) or device.fsid == other.fsid)


def find(mapper: Mapper, image: Image) -> MappedDevice | None:
    """Return the mapper's device of that image, if it has one."""
    return next((device for device in mapper.list() if device.is_of(image)), None)


def adoptable(mapper: Mapper, image: Image, *, readonly: bool) -> MappedDevice | None:
    """Return the device that a repeated `map` may adopt; Refused if its `readonly` is another."""
    found = find(mapper, image)
    if found and found.readonly != readonly:
        raise errors.Refused(
            f"{image}: is mapped as {found.path}, {_MODES[found.readonly]}, and was asked for "
            f"{_MODES[readonly]}; unmap it first"
        )
    return found


_MODES = {True: "read-only", False: "read-write"}
