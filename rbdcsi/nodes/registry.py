"""The node registry: one record for each node, written by the node plugin.

It is at the cluster's home location (the configured pool and RADOS namespace), so the controller
finds the record of a node without regard to the volume's pool.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import stored
from rbdcsi.runtime.futures import Future

_REGISTRY = "rbdcsi.nodes"


@dataclass(frozen=True)
class Refused:
    """Another machine that asked for the node's id and was refused; `at` is in ISO 8601, UTC."""

    machine_id: str
    at: str
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class NodeRecord:
    """One node.

    `addresses` are those of the plugin's own Ceph clients. `machine_id` is empty in records of a
    driver that did not note it. `last_seen` is in ISO 8601 and UTC. `max_volumes` is 0 if there is
    no limit. `allowed_watchers` are the networks of `--allow-foreign-watchers`. `ended_boots` are
    the boots of this machine that registered before, the newest last.
    """

    node_id: str
    addresses: tuple[str, ...]
    boot_id: str
    driver_version: str
    last_seen: str
    max_volumes: int = 0
    mappers: tuple[str, ...] = ()
    topology: Mapping[str, str] = field(default_factory=dict)
    machine_id: str = stored.later("", key="machine")
    allowed_watchers: tuple[str, ...] = stored.later(())
    refused: Refused | None = stored.later(None)
    ended_boots: tuple[str, ...] = stored.later(())
    unknown: Mapping[str, Any] = stored.unknown_fields()

    def has_ended(self, machine_id: str, boot_id: str) -> bool:
        """Return whether that boot of that machine has certainly ended, with its Ceph clients.

        A boot that the record does not have proves nothing: the record may be older than that boot,
        as it is after a restore, or where the machine could not register.
        """
        return self.machine_id == machine_id != "" and boot_id in self.ended_boots


RECORD = stored.Kind(
    NodeRecord,
    name="node record",
    remedy="so no volume can be attached to that node: restart its node plugin, which rewrites the "
    "record",
    unversioned=True,
)


class Nodes:
    """The node records of one cluster."""

    def __init__(self, ioctx: Ioctx) -> None:
        self._omap = omap.Omap(ioctx, _REGISTRY)

    def text(self, node_id: str) -> str | None:
        """Return the node's record as it is stored, None if the node never registered."""
        return self._omap.get(node_id)

    def swap(self, text: str | None, record: NodeRecord) -> bool:
        """Write the node's record if `text` is still stored for it; return whether it was."""
        return self._omap.swap(record.node_id, text, RECORD.encode(record))

    def all(self) -> Iterator[tuple[str, NodeRecord | errors.Failed]]:
        """Yield id and record of every node; of a damaged record, the error that says so."""
        for node_id, text in self._omap.items():
            try:
                yield node_id, decode(node_id, text)
            except errors.Failed as error:
                yield node_id, error

    def remove(self, node_id: str, text: str) -> bool:
        """Remove the node's record if `text` is still stored for it; return whether it was."""
        return self._omap.swap(node_id, text, None)

    def get(self, node_id: str) -> NodeRecord:
        """Read the node's record; see `begin_get`."""
        return self.begin_get(node_id).result()

    def begin_get(self, node_id: str) -> Future[NodeRecord]:
        """Begin to read the node's record.

        Raises:
            NotFound: no node plugin has registered with that id.
            Failed: the record cannot be read.
        """
        return self._omap.begin_get(node_id).then(lambda text: decode(node_id, text))

    def begin_find(self, node_id: str) -> Future[NodeRecord | None]:
        """Begin to read the node's record, None if there is none; Failed if it is damaged."""
        reading = self._omap.begin_get(node_id)
        return reading.then(lambda text: None if text is None else decode(node_id, text))


def decode(node_id: str, text: str | None) -> NodeRecord:
    """Return the node's record from its stored text.

    Raises:
        NotFound: there is no text, as no node plugin has registered with that id.
        Failed: the record is damaged.
    """
    if text is None:
        raise errors.NotFound(
            f"node {node_id!r} is not registered: no node plugin with --node-id {node_id!r} "
            "has reached this Ceph cluster; see the log of the rbdcsi Pod on that node"
        )
    return RECORD.decode(text, f"object {_REGISTRY}, key {node_id}")
