"""The interface of mappers, which turn an RBD image into a block device of this host.

`krbd` uses the kernel's driver, `nbd` runs rbd-nbd, `fuse` runs qemu-storage-daemon; `select`
chooses one. Mappers read the list of mapped devices from the kernel and from their own state.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rbdcsi.config.secret import Secret


@dataclass(frozen=True)
class Image:
    """The image to map. Its ids identify it; Ceph's tools take its names.

    `features` is the mask of the features that a client must support to write to the image; 0 if
    they are not known.
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
    """Access to the cluster: monitors as in ceph.conf's mon_host, user without `client.`.

    `key` is None if the cluster checks no keys.
    """

    monitors: str
    user: str
    key: Secret | None

    @property
    def settings(self) -> tuple[str, ...]:
        """The lines of a ceph.conf by which a client finds the cluster."""
        lines = (f"mon_host = {self.monitors}",)
        return lines if self.key else (*lines, "auth_client_required = none")

    @property
    def secret(self) -> str:
        """The text of the key, empty if there is none."""
        return self.key.reveal() if self.key else ""


@dataclass(frozen=True)
class MappedDevice:
    """An image as a block device of this host.

    `fsid` is None if the mapper does not know the cluster. `client` is the Ceph client
    (`ip:port/nonce`) if the mapper reports it. `fault` is the reason why the device does not work
    any more, though it can be unmapped; None if the device works as far as the host knows.
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


class ImageIdentity(Protocol):
    """The ids that identify an image, as `Image` and `MappedDevice` have them.

    `fsid` is the cluster's id; None if it is not known.
    """

    @property
    def fsid(self) -> str | None: ...
    @property
    def pool_id(self) -> int: ...
    @property
    def namespace(self) -> str: ...
    @property
    def image_id(self) -> str: ...


class Mapper(Protocol):
    """The verbs of every mapper. Each of them may be repeated; times are in seconds."""

    @property
    def name(self) -> str:
        """`krbd`, `nbd` or `fuse`."""

    def unsupported(self, image: Image | None = None) -> str | None:
        """Return the reason why this host cannot use the mapper, with its cure; None if it can.

        Args:
            image: the image to map for writing, whose features the mapper must support; None asks
                for the host alone.
        """

    def map(
        self, image: Image, access: Access, *, readonly: bool, options: str, seconds: float
    ) -> MappedDevice:
        """Map the image with a Ceph client that is made for this device and serves no other.

        A device that the image has already is not returned: its client may be older than a fence
        on which the caller relies. Leftovers of a `map` that was cut off are removed.

        Args:
            image: the image to map.
            access: monitors, user and key.
            readonly: the device refuses writes.
            options: the mapper's own options, comma separated; empty for none.
            seconds: how long it may take.

        Raises:
            Refused: this host cannot map it.
            Busy: this mapper has a device of the image that is in use.
            NotFound: the image does not exist, if the mapper can detect that.
            InvalidRequest: the mapper does not know an option.
            DeadlineExceeded: there was no device in time. The mapper has undone its steps, or
                `list` shows the device.
            Failed: any other error, with the message of the kernel or the tool.
        """

    def unmap(self, device: MappedDevice, *, force: bool = False, seconds: float) -> None:
        """Unmap the device; do nothing if it is not mapped.

        It never unmaps lazily: when it returns, the device has gone.

        Args:
            device: a device that `map` or `list` returned.
            force: do not wait for outstanding I/O, which then ends with errors (for a fenced
                client). A device in use is refused also with `force`.
            seconds: how long it may take.

        Raises:
            Busy: the device is mounted or open; the message names its users.
            Failed, DeadlineExceeded: see `map`.
        """

    def discard(self, device: MappedDevice, *, seconds: float) -> None:
        """Remove a device whose client is fenced, although it may be in use; its I/O fails.

        Args:
            device: a device that `list` returned.
            seconds: how long it may take.

        Raises:
            Failed, DeadlineExceeded: see `map`.
        """

    def list(self) -> tuple[MappedDevice, ...]:
        """Return every device of this mapper on this host.

        It includes unfinished devices and those that other programs mapped.
        """

    def update_size(self, device: MappedDevice, size: int, *, seconds: float) -> None:
        """Make the device take the image's new size, and return when it has that size.

        Args:
            device: a device that `map` or `list` returned.
            size: the image's size in bytes, as Ceph reports it now.
            seconds: how long it may take.

        Raises:
            Refused: `size` is below the device's size.
            DeadlineExceeded: the device did not take the size in time.
        """


def same_image(one: ImageIdentity, other: ImageIdentity) -> bool:
    """Return whether both have the ids of one image; an unknown cluster matches every cluster."""
    return (
        (one.pool_id, one.namespace, one.image_id)
        == (other.pool_id, other.namespace, other.image_id)
    ) and (None in (one.fsid, other.fsid) or one.fsid == other.fsid)


def find(mapper: Mapper, image: ImageIdentity) -> MappedDevice | None:
    """Return the mapper's device of that image, or None."""
    return next((device for device in mapper.list() if same_image(device, image)), None)
