"""The request of CreateVolume."""

from dataclasses import dataclass

from rbdcsi.model.storage_class import Parameters
from rbdcsi.volumes.sources import ContentSource


@dataclass(frozen=True)
class Request:
    """The request of CreateVolume; sizes in bytes, 0 is no bound.

    `filesystem_named` is False if `fs_type` is only the default. `content` is the volume or
    snapshot of which a copy is to be made.
    """

    name: str
    required: int
    limit: int
    fs_type: str | None
    parameters: Parameters
    filesystem_named: bool = True
    content: ContentSource | None = None
