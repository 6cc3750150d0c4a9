"""The attachment record of a volume: which nodes may use it, how, and how far each of them is.

One JSON value in Ceph for each volume; pure, see store.py for reading and changing it.
"""

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi.model import capabilities, stored


class State(enum.Enum):
    """How far a node is with an attachment."""

    ATTACHED = "attached"  # it may stage
    STAGED = "staged"  # it has the image mapped, by `client`
    RELEASED = "released"  # it has proved that it unmapped the image
    DETACHING = "detaching"  # it may not stage any more


@dataclass(frozen=True)
class Attachment:
    """A node's permission to use a volume.

    `generation` is the fencing token; `client` is the Ceph client (ip:port/nonce) that has it
    mapped; `since` is the time of the last change, ISO 8601 in UTC. `access_type` is None in
    records of a driver that did not note it.
    """

    mode: capabilities.AccessMode
    readonly: bool
    generation: int
    state: State
    since: str
    client: str | None = None
    access_type: capabilities.AccessType | None = stored.later(None, key="access")
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class VolumeRecord:
    """All attachments of one volume, by node id.

    `generation` grows with each attachment; `deleting` is the time since when the volume may not
    be attached because it is being deleted.
    """

    generation: int = 0
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    deleting: str | None = None
    unknown: Mapping[str, Any] = stored.unknown_fields()

    def having(self, node: str, attachment: Attachment) -> "VolumeRecord":
        """Return the record with that node's attachment set."""
        return dataclasses.replace(self, attachments={**self.attachments, node: attachment})

    def without(self, node: str) -> "VolumeRecord":
        """Return the record without that node."""
        rest = {name: each for name, each in self.attachments.items() if name != node}
        return dataclasses.replace(self, attachments=rest)


RECORD = stored.Kind(
    VolumeRecord,
    name="attachment record",
    remedy="so it is not known which nodes use the volume, and nothing is changed: look at it with "
    "`rados getomapval`, make sure that no node has the image open (`rbd status`), then remove "
    "that key",
)
