"""The facts of one NodeStageVolume call."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rbdcsi.attachments import rules
from rbdcsi.attachments.records import Attachment
from rbdcsi.attachments.store import StoredRecord
from rbdcsi.ceph.connection import Connection
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import capabilities, ids
from rbdcsi.staging.notes import Note
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.staging.volume import Volume


@dataclass(frozen=True)
class StageRequest:
    """A NodeStageVolume request; `generation` is that of the attachment."""

    handle: ids.VolumeHandle
    staging_path: Path
    capability: capabilities.Capability
    generation: int


@dataclass(frozen=True)
class StageCall:
    """A request, the volume, and the volume's record and device as they were at its begin.

    `connection` is that of the configured user, who may fence, and `user_connection` that of the
    call's own user, who maps the image.
    `device` is one that this plugin mapped before, and `note` is about that mapping.
    `writes` means that the image is mapped for writing although the attachment is read-only; see
    `Attachment.settles`.
    """

    node: ThisNode
    connection: Connection
    user_connection: Connection
    volume: Volume
    request: StageRequest
    stored: StoredRecord
    device: MappedDevice | None
    note: Note | None
    writes: bool = False

    @property
    def handle(self) -> ids.VolumeHandle:
        """The volume's handle."""
        return self.request.handle

    @property
    def generation(self) -> int:
        """The attachment's generation."""
        return self.request.generation

    @property
    def attachment(self) -> Attachment:
        """This node's attachment."""
        attachment = self.stored.record.attachments[self.node.node_id]
        return dataclasses.replace(attachment, readonly=False) if self.writes else attachment

    def require_attached(self) -> None:
        """Raise Refused if the attachment of this generation has ended since."""
        record = self.volume.records.get(self.handle.image_id)
        rules.require(record, str(self.handle), self.node.node_id, self.generation)
