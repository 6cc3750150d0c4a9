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
class Client:
    """A Ceph client of a node that has the image mapped, or had it and is not proved gone.

    `address` is ip:port/nonce. Ceph makes the nonce at random, so an address is never used twice.
    The other facts are empty if a driver recorded the client that did not note them.
    """

    address: str
    machine_id: str = stored.later("", key="machine")
    boot_id: str = stored.later("", key="boot")
    mapper: str = stored.later("")
    unknown: Mapping[str, Any] = stored.unknown_fields()

    def has_ended(self, machine_id: str, boot_id: str) -> bool:
        """Return whether the client ended with its boot, as its machine runs another one now.

        Only that machine itself is sure of its present boot; others ask `NodeRecord.has_ended`.
        """
        return self.machine_id == machine_id != "" and self.boot_id != boot_id != ""


@dataclass(frozen=True)
class Attachment:
    """A node's permission to use a volume.

    `generation` is the fencing token; `since` is the time of the last change, ISO 8601 in UTC.
    `access_type` is None in records of a driver that did not note it. `client` is the address of
    the client that mapped the image last: all that drivers before `recorded_clients` read and
    write. See `clients`.
    `settles` means that the node maps the image for writing once, before it uses it read-only: its
    filesystem was copied, and the journal must be replayed. No other node has the volume then.
    """

    mode: capabilities.AccessMode
    readonly: bool
    generation: int
    state: State
    since: str
    client: str | None = None
    access_type: capabilities.AccessType | None = stored.later(None, key="access")
    recorded_clients: tuple[Client, ...] = stored.later((), key="clients")
    settles: bool = stored.later(False)
    unknown: Mapping[str, Any] = stored.unknown_fields()

    @property
    def clients(self) -> tuple[Client, ...]:
        """Every client that is not proved gone, also one that an older driver recorded."""
        recorded = {client.address for client in self.recorded_clients}
        if self.client is None or self.client in recorded:
            return self.recorded_clients
        return (*self.recorded_clients, Client(self.client))

    def having_clients(self, clients: tuple[Client, ...]) -> "Attachment":
        """Return the attachment with these clients only."""
        address = clients[-1].address if clients else None
        return dataclasses.replace(self, client=address, recorded_clients=clients)


@dataclass(frozen=True)
class Growth:
    """The last growth of the image: the Ceph client that resizes it, to `size` bytes, and when."""

    client: str
    size: int
    since: str
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class Rollback:
    """A rollback of the image that has begun; until it ends, the image may be half old, half new.

    Attributes:
        client: the address of the Ceph client that does it.
        snap_id: RBD's id of the snapshot.
        snapshot: the name of the snapshot, for messages.
        size: the size of the image in bytes before.
        since: when it began.
        protected: RBD's ids of other snapshots that rollbacks protected and were cut off.
    """

    client: str
    snap_id: int
    snapshot: str
    size: int
    since: str
    protected: tuple[int, ...] = stored.later(())
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class VolumeRecord:
    """All attachments of one volume, by node id.

    `generation` grows with each attachment; `deleting` is the time since when the volume may not
    be attached because it is being deleted. `growth` is finished if the image has its size.
    `rollback` is one that has not ended; drivers that do not know it cannot read such a record, so
    they leave the volume alone. `rollbacks` is how many have ever begun.
    """

    generation: int = 0
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    deleting: str | None = None
    growth: Growth | None = stored.later(None)
    rollback: Rollback | None = stored.later(None, version=2)
    rollbacks: int = stored.later(0)
    unknown: Mapping[str, Any] = stored.unknown_fields()

    def writers(self) -> frozenset[str]:
        """Return the addresses of the clients by which nodes have the image mapped for writing."""
        return frozenset(
            client.address
            for attachment in self.attachments.values()
            if not attachment.readonly or attachment.settles
            for client in attachment.clients
        )

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
