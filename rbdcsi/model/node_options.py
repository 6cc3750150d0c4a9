"""The options of a StorageClass that only nodes need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi.model import stored

FORCE = "force"  # the one option for unmapping


@dataclass(frozen=True)
class NodeOptions:
    """The options that CreateVolume stores in the image's metadata and NodeStageVolume reads.

    Options are texts as the mapper or mkfs takes them; the keys of the mappings are mappers' names.
    """

    mapper: str | None = None
    try_other_mappers: bool = False
    map_options: Mapping[str, str] = field(default_factory=dict)
    unmap_options: Mapping[str, str] = field(default_factory=dict)
    mkfs_options: str = ""
    unknown: Mapping[str, Any] = stored.unknown_fields()
