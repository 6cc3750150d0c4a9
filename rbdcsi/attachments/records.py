"""The attachment record of a volume: which nodes may use it, how, and how far each of them is.

One JSON value in Ceph for each volume; pure, see store.py for reading and changing it.
"""

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from rbdcsi import errors
from rbdcsi.model import capabilities

VERSION = 1


_ACCESS = {True: "block", False: "mount"}


class State(enum.Enum):
    """How far a node is with an attachment."""

    ATTACHED = "attached"  # it may stage
    STAGED = "staged"  # it has the image mapped, by `client`
    RELEASED = "released"  # it has proved that it let go
    DETACHING = "detaching"  # it may not stage any more


@dataclass(frozen=True)
class Attachment:
    """A node's permission to use a volume.

    `generation` is the fencing token; `client` is the Ceph client (ip:port/nonce) that has it
    mapped; `since` is the time of the last change, ISO 8601 in UTC. `block` is the access type: a
    raw block device, or a mounted filesystem; None in records of a driver that did not note it.
    """

    mode: capabilities.AccessMode
    readonly: bool
    generation: int
    state: State
    since: str
    client: str | None = None
    block: bool | None = None


@dataclass(frozen=True)
class VolumeRecord:
    """All attachments of one volume, by node id.

    `generation` grows with each attachment; `deleting` is the time since when the volume may not
    be attached because it is being deleted.
    """

    generation: int = 0
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    deleting: str | None = None

    def having(self, node: str, attachment: Attachment) -> "VolumeRecord":
        """Return the record with that node's attachment set."""
        return dataclasses.replace(self, attachments={**self.attachments, node: attachment})

    def without(self, node: str) -> "VolumeRecord":
        """Return the record without that node."""
        rest = {name: held for name, held in self.attachments.items() if name != node}
        return dataclasses.replace(self, attachments=rest)


def encode(record: VolumeRecord) -> str:
    """Write the record as JSON, in ASCII."""
    nodes = {
        node: {
            "mode": held.mode.value,
            "readonly": held.readonly,
            "generation": held.generation,
            "state": held.state.value,
            "since": held.since,
            "client": held.client,
            **({} if held.block is None else {"access": _ACCESS[held.block]}),
        }
        for node, held in record.attachments.items()
    }
    facts = {
        "version": VERSION,
        "generation": record.generation,
        "attachments": nodes,
        "deleting": record.deleting,
    }
    return json.dumps(facts, separators=(",", ":"))


def decode(text: str, where: str) -> VolumeRecord:
    """Read a record.

    Args:
        text: what `encode` wrote.
        where: the object and key it was read from, for the message.

    Raises:
        Failed: it is not a record of a version that this driver knows; nothing is guessed.
    """
    try:
        facts = json.loads(text)
        if facts["version"] != VERSION:
            raise errors.Failed(
                f"the attachment record in {where} has version {facts['version']}, this driver "
                f"knows {VERSION}: run the newer driver that wrote it"
            )
        nodes = {node: _attachment(held) for node, held in facts["attachments"].items()}
        return VolumeRecord(
            _typed(facts, "generation", int), nodes, _typed(facts, "deleting", str, NoneType)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.Failed(
            f"the attachment record in {where} is damaged ({error!r}), so it cannot be told who "
            "uses the volume and nothing is changed: look at it with `rados getomapval`, make "
            "sure that no node has the image open (`rbd status`), then remove that key"
        ) from error


def _attachment(facts: Mapping[str, Any]) -> Attachment:
    return Attachment(
        mode=capabilities.AccessMode(facts["mode"]),
        readonly=_typed(facts, "readonly", bool),
        generation=_typed(facts, "generation", int),
        state=State(facts["state"]),
        since=_typed(facts, "since", str),
        client=_typed(facts, "client", str, NoneType),
        block=_block(facts.get("access")),
    )


def _block(access: Any) -> bool | None:
    if access is None:
        return None
    return {name: block for block, name in _ACCESS.items()}[access]


def _typed(facts: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = facts[name]
    if type(value) not in kinds:  # a bool is no int here
        raise TypeError(f"{name} is {value!r}")
    return value
