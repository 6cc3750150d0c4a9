"""Clients other than the one that a stage call is about to make.

The attachment may have clients from before: each must be proved gone, or is fenced. The image may
have watchers that no attachment accounts for: a volume with one writer is not staged then.
"""

import ipaddress
import time
from collections.abc import Callable, Set

from rbdcsi import errors
from rbdcsi.attachments import fencing
from rbdcsi.attachments.records import Attachment, Client
from rbdcsi.ceph import blocklist, mirroring, rights
from rbdcsi.ceph.flattening import Claims
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.runtime import deadlines
from rbdcsi.staging.stage_call import StageCall
from rbdcsi.staging.this_node import Network, ThisNode

_MOMENT_SECONDS = 5.0  # a snapshot takes a second with one monitor
_PAUSE_SECONDS = 0.1


def end_earlier(call: StageCall, watchers: Set[str], unmapped: Set[str]) -> frozenset[str]:
    """Return the addresses of the attachment's clients, none of which uses the image any more.

    A client that ended with an earlier boot, or whose device this node has unmapped, is gone. One
    of another machine is fenced, unless it watches the image: then it lives.

    Args:
        call: the call.
        watchers: those of the image.
        unmapped: the clients whose devices were unmapped here.

    Raises:
        OtherClient: a client still has the image open, or must not be fenced (`--fence=never`).
        Forbidden: the Ceph user may not fence.
    """
    node, connection, handle = call.node, call.connection, call.handle
    for client in call.attachment.clients:
        if client.address in unmapped or node.proves_gone(client):
            continue
        if client.address in watchers:
            raise errors.OtherClient(
                f"volume {handle} is attached to node {node.node_id!r}, and client "
                f"{client.address} of {_machine(node, client)} still has it open; two machines "
                "must not have one node id: end that one's node plugin and detach the volume, or "
                f"give it another --node-id; if it is this machine, `ceph osd blocklist add "
                f"{client.address}` ends the client"
            )
        if not node.may_fence:
            raise errors.OtherClient(
                f"volume {handle} is attached to node {node.node_id!r}, and client "
                f"{client.address} of {_machine(node, client)} is not proved gone, and "
                "--fence=never forbids to fence it; detach the volume from the node by hand, which "
                f"fences the client: `rbdcsi attachments release {handle} {node.node_id}`"
            )
        fencing.fence(
            connection, call.volume.images, str(handle), handle.image_id, node.node_id, client
        )
    return frozenset(client.address for client in call.attachment.clients)


def require_only(call: StageCall, attachment: Attachment, own: str | None) -> None:
    """Refuse a client that came into the attachment since `end_earlier` looked at it.

    Args:
        call: the call.
        attachment: this node's as it is now, without the clients that `end_earlier` returned.
        own: the client of the device that this call has mapped; None if it needs no fence.

    Raises:
        OtherClient: there is one: another machine with this node id, which may write.
    """
    for client in attachment.clients:
        if client.address != own:
            raise errors.OtherClient(
                f"volume {call.handle}: client {client.address} of {_machine(call.node, client)} "
                f"was recorded for node {call.node.node_id!r} while this call mapped the volume, "
                "so it is unmapped here again; if that is another machine, give each machine a "
                "--node-id of its own; then repeat the call"
            )


def _machine(node: ThisNode, client: Client) -> str:
    if client.machine_id == node.machine.machine_id:
        return "this machine, which has no device of it"
    return f"another machine ({client.machine_id})" if client.machine_id else "an unknown machine"


def wait_until_alone(
    call: StageCall, watchers: frozenset[str], list_watchers: Callable[[], frozenset[str]]
) -> frozenset[str]:
    """Return the watchers when no foreign one is left; see `require_no_others`.

    Controllers open images for a moment: to take a snapshot, to resize, and the source of a copy
    whose data is removed.

    Args:
        call: the call.
        watchers: those of the image.
        list_watchers: lists them again.

    Raises:
        ForeignWatcher: one is still there after some seconds.
    """
    ends_at = time.monotonic() + _MOMENT_SECONDS
    while True:
        try:
            require_no_others(call, watchers)
        except errors.ForeignWatcher:
            if time.monotonic() > ends_at:
                raise
        else:
            return watchers
        time.sleep(deadlines.remaining(_PAUSE_SECONDS))
        watchers = list_watchers()


def require_no_others(call: StageCall, watchers: Set[str]) -> None:
    """Refuse to stage a volume with one writer while a client that is in no record has it open.

    rbd-mirror daemons, clients on the blocklist, and what `--allow-foreign-watchers` names may
    watch, and one client while the image is claimed: a controller flattens it.

    Raises:
        ForeignWatcher: there is such a client; the message names it.
    """
    attachment, image = call.attachment, call.volume.image
    if attachment.readonly or attachment.mode is AccessMode.MULTI_NODE_MULTI_WRITER:
        return
    recorded = {c.address for each in call.stored.record.attachments.values() for c in each.clients}
    foreign = [
        address
        for address in sorted(watchers - recorded)
        if not is_allowed(address, call.node.allowed_watchers)
    ]
    if foreign:
        # The note of a fence is no proof: its entry may have been removed by hand.
        shut_out = blocklist.addresses(call.connection)
        foreign = [address for address in foreign if address not in shut_out]
    if foreign:
        daemons = mirroring.daemons(call.volume.ioctx, image.image_id)
        foreign = [address for address in foreign if address not in daemons]
    if foreign and not (len(foreign) == 1 and _is_flattened(call)):
        raise errors.ForeignWatcher(
            f"volume {call.handle} is not staged, because {', '.join(foreign)} has image "
            f"{image} open, and no attachment accounts for that client; close it there "
            f"(`rbd status {image}`), or name its address with --allow-foreign-watchers if "
            "it does not write; a client that is long dead: `ceph osd blocklist add ADDRESS`"
        )


def _is_flattened(call: StageCall) -> bool:
    return Claims(call.volume.ioctx).begin_get(call.handle.image_id).result() is not None


def require_breakable(call: StageCall, dead: Set[str]) -> None:
    """Refuse to map the image if its lock is a dead client's that the Ceph user may not break.

    librbd and krbd put such a client on the blocklist before they take the lock. If that is not
    allowed, all writes to the device fail after half a minute, and mount(8) finds no superblock.

    Args:
        call: the call.
        dead: the holders of the lock that do not watch the image.

    Raises:
        Forbidden: the user lacks the right.
    """
    if dead and not rights.may_fence(call.user_connection):
        raise errors.Forbidden(
            f"image {call.volume.image} is locked by {', '.join(sorted(dead))}, which is gone, and "
            f"client.{call.volume.access.user} may not break the lock: that takes the right to put "
            "a client on the blocklist; give the user mon 'profile rbd' (`ceph auth caps`)"
        )


def is_allowed(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether a client's address, `ip:port/nonce`, is in one of these networks."""
    host = address.partition("/")[0].rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(ip in network for network in networks)
