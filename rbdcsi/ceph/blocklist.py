"""Ceph's blocklist: OSDs refuse every operation of a client that is listed, by its exact address.

The address is `ip:port/nonce`, never a machine's: other clients of the machine go on. `ceph osd
blocklist ls` shows the entries.
"""

from collections.abc import Iterator
from typing import Any

import structlog

from rbdcsi.ceph.connection import Connection

_log = structlog.get_logger()

_COMMAND = "osd blocklist"
ENDED = "put an unfinished process of the driver on the blocklist"
_ENDED_SECONDS = 24 * 3600.0  # a process that was stopped may go on later


def add(connection: Connection, address: str, seconds: float) -> int:
    """List a client for so long, or again for so long, and return when this process knows it.

    The monitors have committed the entry then, and the local OSD map has it. An OSD that gets an
    operation which was sent with that map, or a newer one, takes that map first.

    Args:
        connection: to the cluster.
        address: of the client.
        seconds: until the entry ends by itself.

    Returns:
        The epoch of an OSD map that has the entry.

    Raises:
        Forbidden: the user lacks `profile rbd` on mon.
        Unavailable: the monitors do not answer.
    """
    connection.command(_COMMAND, blocklistop="add", addr=address, expire=float(seconds))
    connection.wait_for_newest_map()
    return int(connection.command("osd stat")["epoch"])


def end_process(connection: Connection, address: str) -> None:
    """List the client of a process that died, or stopped, in its work on an image.

    It must not go on with that work while another one does it. Its entry ends by itself after a
    day: nothing shows whether the process has ended.

    Raises:
        Forbidden, Unavailable: see `add`.
    """
    add(connection, address, _ENDED_SECONDS)
    _log.info(ENDED, client=address)


def remove(connection: Connection, address: str) -> None:
    """Remove a client from the blocklist; do nothing if it is not listed.

    Raises:
        Forbidden: the user may only add; the entry ends by itself.
    """
    if address in addresses(connection):
        connection.command(_COMMAND, blocklistop="rm", addr=address)


def addresses(connection: Connection) -> frozenset[str]:
    """Return the addresses of the listed clients, and the listed ranges of addresses."""
    lists = connection.command("osd blocklist ls")
    return frozenset(_addresses(lists))


def _addresses(listed: Any) -> Iterator[str]:
    # Ceph 16 and newer answer with a list of clients and a list of ranges.
    for entry in listed:
        if isinstance(entry, list):
            yield from _addresses(entry)
        else:
            yield str(entry.get("addr") or entry.get("range"))
