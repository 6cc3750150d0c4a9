"""The node registry: what each node plugin says of itself.

It lives at the cluster's home location (the configured pool and RADOS namespace), so that the
controller finds a node whatever pool the volume is in.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rbdcsi import errors
from rbdcsi.ceph import connections, omap

_REGISTRY = "rbdcsi.nodes"


@dataclass(frozen=True)
class NodeRecord:
    """A node plugin's own word; `last_seen` is ISO 8601 in UTC, `max_volumes` 0 is no limit."""

    node_id: str
    addresses: tuple[str, ...]
    boot_id: str
    driver_version: str
    last_seen: str
    max_volumes: int = 0
    mappers: tuple[str, ...] = ()
    topology: Mapping[str, str] = field(default_factory=dict)


class Nodes:
    """The node records of one cluster."""

    def __init__(self, ioctx: connections.Ioctx) -> None:
        self._omap = omap.Omap(ioctx, _REGISTRY)

    def register(self, record: NodeRecord) -> None:
        """Write the node's record."""
        self._omap.put(record.node_id, json.dumps(dataclasses.asdict(record)))

    def get(self, node_id: str) -> NodeRecord:
        """Return the node's record; see `begin_get`."""
        return self.begin_get(node_id)()

    def begin_get(self, node_id: str) -> Callable[[], NodeRecord]:
        """Begin to read the node's record; what is returned waits for it.

        Raises:
            NotFound: no node plugin has registered under that id.
            Failed: the record cannot be read.
        """
        reading = self._omap.begin_get(node_id)
        return lambda: _decode(node_id, reading())


def _decode(node_id: str, text: str | None) -> NodeRecord:
    if text is None:
        raise errors.NotFound(
            f"node {node_id!r} is not registered: no node plugin with --node-id {node_id!r} "
            "has reached this Ceph cluster; see the log of the rbdcsi node Pod there"
        )
    try:
        facts = json.loads(text)
        known = {f.name for f in dataclasses.fields(NodeRecord)}
        return NodeRecord(**{name: facts[name] for name in facts if name in known})
    except (ValueError, TypeError) as error:
        raise errors.Failed(
            f"the record of node {node_id!r} in object {_REGISTRY} is damaged ({error}); "
            "restart the node plugin there, it writes it anew"
        ) from error
