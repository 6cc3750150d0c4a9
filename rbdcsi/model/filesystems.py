"""The filesystems that volumes may have, with the properties in which they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rbdcsi.model import mkfs_options, mount_options
from rbdcsi.model.option_values import Allowed, Rule

_MIB = 1 << 20


@dataclass(frozen=True)
class Filesystem:
    """One filesystem.

    Attributes:
        smallest_bytes: the smallest volume; on a smaller one mkfs fails or leaves no room for data.
        mkfs_defaults: the arguments of mkfs if the StorageClass has none.
        mkfs_allowed: the mkfs options that a StorageClass may have.
        mkfs_rules: between these options.
        mount_allowed: its own mount options that a StorageClass may have.
        mount_rules: between these options.
        mount_always: the options with which it is always mounted.
    """

    smallest_bytes: int
    mkfs_defaults: tuple[str, ...]
    mkfs_allowed: Allowed
    mkfs_rules: tuple[Rule, ...]
    mount_allowed: Allowed
    mount_rules: tuple[Rule, ...] = ()
    mount_always: tuple[str, ...] = ()


DEFAULT = "ext4"

TABLE: Mapping[str, Filesystem] = MappingProxyType(
    {
        "ext4": Filesystem(
            16 * _MIB,
            ("-m0", "-Elazy_itable_init=1,lazy_journal_init=1,nodiscard"),
            mkfs_options.EXT4,
            mkfs_options.EXT4_RULES,
            mount_options.EXT4,
            mount_options.EXT4_RULES,
        ),
        # mkfs.xfs makes no smaller one since xfsprogs 5.19
        # The kernel mounts one xfs of a UUID, which a copy shares with its source. A device's image
        # is known by its ids, so the UUID is not needed to tell them apart.
        "xfs": Filesystem(
            300 * _MIB,
            ("-K",),
            mkfs_options.XFS,
            mkfs_options.XFS_RULES,
            mount_options.XFS,
            mount_options.XFS_RULES,
            mount_always=("nouuid",),
        ),
        "btrfs": Filesystem(
            128 * _MIB,
            ("-K",),
            mkfs_options.BTRFS,
            mkfs_options.BTRFS_RULES,
            mount_options.BTRFS,
        ),
    }
)


def without_discard(fs_type: str, options: Sequence[str]) -> tuple[str, ...]:
    """Return the options of mkfs with the one that keeps it from discarding blocks.

    A new image is empty, and to discard all of a large one takes minutes.

    Args:
        fs_type: one of `TABLE`.
        options: as `mkfs_options.parse` returns them.
    """
    if fs_type != "ext4":
        return tuple(options) if "-K" in options else (*options, "-K")
    words, is_value = [], False
    for word in options:
        # mke2fs takes only its last -E, and of contradicting words there the last one
        is_list = is_value or (word.startswith("-E") and word != "-E")
        words.append(f"{word},nodiscard" if is_list and not word.endswith("nodiscard") else word)
        is_value = word == "-E"
    return tuple(words) if any(word.startswith("-E") for word in words) else (*words, "-Enodiscard")
