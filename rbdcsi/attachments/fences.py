"""The fences of a cluster: the clients that the driver put on Ceph's blocklist, and why.

They are at the cluster's home location, one key a client. A note stands before its entry of the
blocklist is made, and is removed after the entry, so no entry of a node's client is without a note.
A process that was ended while it grew, flattened or rolled back an image has an entry, but no note:
`blocklist.end_process`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import stored

OBJECT = "rbdcsi.fences"


@dataclass(frozen=True)
class Fence:
    """A client that must not use its image any more.

    `machine_id` and `boot_id` are empty if they were not recorded. `epoch` is that of an OSD map
    with the entry; 0 if the entry was not made yet. `until` is when the entry ends unless it is
    renewed, in ISO 8601 and UTC. `gone` is the time at which the node reported that it has no
    device of this client any more. `retired` means that the node was retired, with its machine.
    """

    address: str
    volume: str
    node_id: str
    machine_id: str
    boot_id: str
    since: str
    until: str
    epoch: int = 0
    gone: str | None = stored.later(None)
    retired: bool = stored.later(False)
    unknown: Mapping[str, Any] = stored.unknown_fields()


FENCE = stored.Kind(
    Fence,
    name="fence",
    remedy="so its entry of the blocklist is not renewed: look at `ceph osd blocklist ls`, then "
    "remove the key",
)


class Fences:
    """The fences of one cluster."""

    def __init__(self, home: Ioctx) -> None:
        self._omap = omap.Omap(home, OBJECT)

    def put(self, fence: Fence) -> None:
        """Write the fence of its client."""
        self._omap.put(fence.address, FENCE.encode(fence))

    def get(self, address: str) -> Fence | None:
        """Return the fence of a client, None if it has none.

        Raises:
            Failed: it is damaged.
        """
        text = self._omap.get(address)
        return None if text is None else _decode(address, text)

    def change(self, fence: Fence, changed: Fence | None) -> bool:
        """Replace or remove (None) a fence if it is still stored; return whether it was."""
        new = None if changed is None else FENCE.encode(changed)
        return self._omap.swap(fence.address, FENCE.encode(fence), new)

    def remove(self, address: str) -> None:
        """Remove the fence of a client, also a damaged one."""
        self._omap.put(address, None)

    def all(self) -> Iterator[Fence | errors.Failed]:
        """Yield every fence; of a damaged one, the error that says so."""
        for _, fence in self.each():
            yield fence

    def each(self) -> Iterator[tuple[str, Fence | errors.Failed]]:
        """Yield the address of every fenced client with its fence; see `all`."""
        for address, text in self._omap.items():
            try:
                yield address, _decode(address, text)
            except errors.Failed as error:
                yield address, error


def _decode(address: str, text: str) -> Fence:
    return FENCE.decode(text, f"object {OBJECT}, key {address}")
