"""The filesystems that volumes may have, with all that differs between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rbdcsi.model import mkfs_options

_MIB = 1 << 20


@dataclass(frozen=True)
class Filesystem:
    """One filesystem.

    Attributes:
        smallest_bytes: below it, mkfs refuses or leaves no room for data.
        mkfs_defaults: arguments of mkfs if the StorageClass gives none. A new image is empty, so
            nothing is discarded.
        mkfs_allowed: the options that a StorageClass may give.
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
