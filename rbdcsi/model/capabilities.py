"""The ways in which a workload may use a volume, and the rules that decide which are possible."""

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.model import filesystems, mount_options


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
        """Whether only one node at a time may use the volume."""
        return self.value.startswith("SINGLE_NODE")

    @property
    def reader_only(self) -> bool:
        """Whether workloads may only read."""
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
        """Whether the workload uses a device or a filesystem."""
        return AccessType.BLOCK if self.block else AccessType.MOUNT

    def __str__(self) -> str:
        return f"{self.access_type.value} {self.mode.value}"


def covers(attached: AccessMode, asked: AccessMode) -> bool:
    """Return whether a node that has a volume attached in one mode may use it in another.

    The modes differ in Kubernetes: the external-attacher merges all accessModes of the
    PersistentVolume, the kubelet takes the first one.
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
    """Raise an error for a capability that no RBD volume can have.

    Raises:
        InvalidRequest: the filesystem is not supported, or several nodes would write to it.
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


def filesystem(requested: Collection[Capability], parameter: str | None) -> str | None:
    """Return the filesystem of a new volume, None if the volume is for raw block use only.

    Args:
        requested: the capabilities of CreateVolume, each already checked.
        parameter: the StorageClass's `csi.storage.k8s.io/fstype`, None if it has none.

    Raises:
        InvalidRequest: the capabilities name different filesystems.
    """
    mounts = [capability for capability in requested if not capability.block]
    if not mounts:
        return None
    types = {c.fs_type for c in mounts if c.fs_type} or {parameter or filesystems.DEFAULT}
    if len(types) > 1:
        raise errors.InvalidRequest(
            "one volume cannot have several filesystems, but volume_capabilities ask for "
            f"{', '.join(sorted(types))}; ask for one of them"
        )
    (fs_type,) = types
    return fs_type


def names_filesystem(requested: Iterable[Capability], parameter: str | None) -> bool:
    """Return whether a request of CreateVolume names the filesystem; see `filesystem`."""
    return parameter is not None or any(capability.fs_type for capability in requested)


def require_mount_flags(requested: Iterable[Capability], fs_type: str) -> None:
    """Check the mount flags of capabilities.

    Args:
        requested: each already checked.
        fs_type: the filesystem that is mounted, one of `filesystems.TABLE`.

    Raises:
        InvalidRequest: see `mount_options.require_allowed`.
    """
    own = filesystems.TABLE[fs_type].mount_allowed
    for capability in requested:
        mount_options.require_allowed(capability.mount_flags, fs_type, own)


def require_together(requested: Iterable[Capability], fs_type: str) -> None:
    """Check the rules between the mount flags of a class; see `require_mount_flags`.

    Raises:
        InvalidRequest: see `mount_options.require_together`.
    """
    rules = filesystems.TABLE[fs_type].mount_rules
    for capability in requested:
        mount_options.require_together(capability.mount_flags, fs_type, rules)
