"""The options of a StorageClass that only nodes need: kept with the image, read at NodeStage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi.model import stored

FORCE = "force"  # the one option for unmapping


@dataclass(frozen=True)
class NodeOptions:
    """What a node needs to know beyond the image: kept with the image, read at NodeStage.

    Options are strings as the mapper or mkfs takes them; the mappings go by mapper name.
    """

    mapper: str | None = None
    try_other_mappers: bool = False
    map_options: Mapping[str, str] = field(default_factory=dict)
    unmap_options: Mapping[str, str] = field(default_factory=dict)
    mkfs_options: str = ""
    unknown: Mapping[str, Any] = stored.unknown_fields()
