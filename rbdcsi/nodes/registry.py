"""The node registry: one record for each node, written by the node plugin.

It is at the cluster's home location (the configured pool and RADOS namespace), so the controller
finds the record of a node without regard to the volume's pool.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi import errors
from rbdcsi.ceph import connections, omap
from rbdcsi.model import stored
from rbdcsi.runtime.futures import Future

_REGISTRY = "rbdcsi.nodes"


@dataclass(frozen=True)
class NodeRecord:
    """One node. `last_seen` is in ISO 8601 and UTC; `max_volumes` is 0 if there is no limit."""

    node_id: str
    addresses: tuple[str, ...]
    boot_id: str
    driver_version: str
    last_seen: str
    max_volumes: int = 0
    mappers: tuple[str, ...] = ()
    topology: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, Any] = stored.unknown_fields()


RECORD = stored.Kind(
    NodeRecord,
    name="node record",
    remedy="so no volume can be attached to that node: restart its node plugin, which rewrites the "
    "record",
    unversioned=True,
)


class Nodes:
    """The node records of one cluster."""

    def __init__(self, ioctx: connections.Ioctx) -> None:
        self._omap = omap.Omap(ioctx, _REGISTRY)

    def register(self, record: NodeRecord) -> None:
        """Write the node's record."""
        self._omap.put(record.node_id, RECORD.encode(record))

    def get(self, node_id: str) -> NodeRecord:
        """Read the node's record; see `begin_get`."""
        return self.begin_get(node_id).result()

    def begin_get(self, node_id: str) -> Future[NodeRecord]:
        """Begin to read the node's record.

        Raises:
            NotFound: no node plugin has registered with that id.
            Failed: the record cannot be read.
        """
        return self._omap.begin_get(node_id).then(lambda text: _decode(node_id, text))


def _decode(node_id: str, text: str | None) -> NodeRecord:
    if text is None:
        raise errors.NotFound(
            f"node {node_id!r} is not registered: no node plugin with --node-id {node_id!r} "
            "has reached this Ceph cluster; see the log of the rbdcsi Pod on that node"
        )
    return RECORD.decode(text, f"object {_REGISTRY}, key {node_id}")
