"""The filesystems that volumes may have, with the properties in which they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rbdcsi.model import mkfs_options

_MIB = 1 << 20


@dataclass(frozen=True)
class Filesystem:
    """One filesystem.

    Attributes:
        smallest_bytes: the smallest volume; on a smaller one mkfs fails or leaves no room for data.
        mkfs_defaults: the arguments of mkfs if the StorageClass has none. A new image is empty, so
            mkfs need not discard its blocks.
        mkfs_allowed: the mkfs options that a StorageClass may have.
    """

    smallest_bytes: int
    mkfs_defaults: tuple[str, ...]
    mkfs_allowed: mkfs_options.Allowed


DEFAULT = "ext4"

TABLE: Mapping[str, Filesystem] = MappingProxyType(
    {
        "ext4": Filesystem(
            16 * _MIB,
            ("-m0", "-Enodiscard,lazy_itable_init=1,lazy_journal_init=1"),
            mkfs_options.EXT4,
        ),
        "xfs": Filesystem(300 * _MIB, ("-K",), mkfs_options.XFS),  # since xfsprogs 5.19
        "btrfs": Filesystem(128 * _MIB, ("--nodiscard",), mkfs_options.BTRFS),
    }
)
