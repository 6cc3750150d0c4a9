"""The features of xfs that mkfs.xfs switches on by itself, but that older kernels do not mount.

The image's mkfs.xfs may be newer than the node's kernel. Older features are not listed: kernels
since 5.4 mount them. See the files lts_*.conf and the release notes of xfsprogs.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

Version = tuple[int, int]


class Feature(NamedTuple):
    """A feature: its mkfs option, the first kernel that mounts it, the first mkfs that uses it.

    An older mkfs either does not know the option, or does not switch the feature on by itself.
    """

    option: str
    name: str
    kernel: Version
    mkfs: Version


TABLE = (
    Feature("-m", "bigtime", (5, 10), (5, 15)),
    Feature("-m", "inobtcount", (5, 10), (5, 15)),
    Feature("-i", "nrext64", (5, 19), (5, 19)),
    Feature("-i", "exchange", (6, 10), (6, 10)),
    Feature("-n", "parent", (6, 10), (6, 10)),
)
NEWEST = max(feature.kernel for feature in TABLE)


def version(text: str) -> Version:
    """Return the first version in a text, such as 6.1 of `mkfs.xfs version 6.1.0`.

    Raises:
        ValueError: there is none.
    """
    match = re.search(r"([0-9]+)\.([0-9]+)", text, re.ASCII)
    if not match:
        raise ValueError(f"{text!r} has no version")
    return int(match[1]), int(match[2])


def switched_off(kernel: Version, mkfs: Version, options: Sequence[str]) -> tuple[str, ...]:
    """Return the options of mkfs.xfs that make a filesystem which this kernel mounts.

    Args:
        kernel: the version of the kernel that will mount it.
        mkfs: the version of mkfs.xfs.
        options: those of the StorageClass; a feature that they name stays as they have it.
    """
    text = " ".join(options)
    return tuple(
        word
        for feature in TABLE
        if kernel < feature.kernel and mkfs >= feature.mkfs and feature.name not in text
        for word in (feature.option, f"{feature.name}=0")
    )
