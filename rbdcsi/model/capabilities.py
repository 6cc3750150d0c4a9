"""What a workload wants to do with a volume, and which of these wishes can be granted at all."""

import enum
from collections.abc import Collection
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.model import filesystems


class AccessMode(enum.Enum):
    """CSI's access modes, by their names in VolumeCapability.AccessMode.Mode."""

    SINGLE_NODE_WRITER = "SINGLE_NODE_WRITER"
    SINGLE_NODE_READER_ONLY = "SINGLE_NODE_READER_ONLY"
    SINGLE_NODE_SINGLE_WRITER = "SINGLE_NODE_SINGLE_WRITER"
    SINGLE_NODE_MULTI_WRITER = "SINGLE_NODE_MULTI_WRITER"
    MULTI_NODE_READER_ONLY = "MULTI_NODE_READER_ONLY"
    MULTI_NODE_SINGLE_WRITER = "MULTI_NODE_SINGLE_WRITER"
    MULTI_NODE_MULTI_WRITER = "MULTI_NODE_MULTI_WRITER"

    @property
    def single_node(self) -> bool:
        """Whether one node at a time may hold the volume."""
        return self.value.startswith("SINGLE_NODE")

    @property
    def reader_only(self) -> bool:
        """Whether nobody may write."""
        return self.value.endswith("READER_ONLY")


class AccessType(enum.Enum):
    """How a workload uses a volume: CSI's VolumeCapability.access_type."""

    BLOCK = "block"  # as a raw block device
    MOUNT = "mount"  # by a mounted filesystem


@dataclass(frozen=True)
class Capability:
    """One VolumeCapability: raw block, or a filesystem with its type and mount flags."""

    mode: AccessMode
    block: bool
    fs_type: str = ""
    mount_flags: tuple[str, ...] = ()

    @property
    def access_type(self) -> AccessType:
        """Whether a device or a filesystem is asked for."""
        return AccessType.BLOCK if self.block else AccessType.MOUNT

    def __str__(self) -> str:
        return f"{self.access_type.value} {self.mode.value}"


def covers(attached: AccessMode, asked: AccessMode) -> bool:
    """Tell whether a node that has a volume attached in one mode may use it in another.

    The two differ in Kubernetes: the external-attacher takes all accessModes of the
    PersistentVolume together, the kubelet the first one.
    """
    if asked.reader_only:
        return asked.single_node or not attached.single_node
    if attached.reader_only:
        return False
    if not asked.single_node:
        return attached in {asked, AccessMode.MULTI_NODE_MULTI_WRITER}
    alone = AccessMode.SINGLE_NODE_SINGLE_WRITER
    return attached is not alone or asked is alone


def check(capability: Capability) -> None:
    """Refuse a capability that no RBD volume can have.

    Raises:
        InvalidRequest: an unknown filesystem, or one filesystem written by several nodes.
    """
    if capability.block:
        return
    if capability.fs_type and capability.fs_type not in filesystems.TABLE:
        raise errors.InvalidRequest(
            f"filesystem {capability.fs_type!r} is not supported; use one of "
            + ", ".join(filesystems.TABLE)
        )
    if not capability.mode.single_node and not capability.mode.reader_only:
        raise errors.InvalidRequest(
            f"{capability.mode.value} with a filesystem would destroy it: "
            f"{'/'.join(filesystems.TABLE)} take one node at a time; use a raw block "
            "volume (volumeMode: Block), or ReadWriteOnce, or MULTI_NODE_READER_ONLY"
        )


def filesystem(wanted: Collection[Capability], parameter: str | None) -> str | None:
    """Return the filesystem a new volume is for, None if it is for raw block use only.

    Args:
        wanted: the capabilities of CreateVolume, each already checked.
        parameter: the StorageClass's `csi.storage.k8s.io/fstype`, if any.

    Raises:
        InvalidRequest: the capabilities name different filesystems.
    """
    mounts = [capability for capability in wanted if not capability.block]
    if not mounts:
        return None
    types = {c.fs_type for c in mounts if c.fs_type} or {parameter or filesystems.DEFAULT}
    if len(types) > 1:
        raise errors.InvalidRequest(
            f"one volume cannot have several filesystems, but {', '.join(sorted(types))} are asked"
        )
    (fs_type,) = types
    return fs_type
