"""Records in Ceph that this node does not use a volume any more."""

import contextlib
from collections.abc import Set

from rbdcsi import errors
from rbdcsi.attachments import fencing, rules, store
from rbdcsi.attachments.records import Client
from rbdcsi.ceph.connection import Connection
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.telemetry import steps


def release(
    node: ThisNode, handle: ids.VolumeHandle, unmapped: Set[str], *, were_dead: bool = False
) -> None:
    """Record that the clients of this node are gone, after its device of the volume is.

    Args:
        node: this node; it must have no device of the volume.
        handle: the volume.
        unmapped: the clients whose devices this node has unmapped.
        were_dead: whether they had ended without closing the image. Ceph lists such a client as a
            watcher for a while, or for ever, which would keep the volume from being staged; it is
            fenced, if the operator allows that, which ends the watch.

    Raises:
        Unavailable: Ceph does not answer.
        Busy: a client of this machine watches the image, from a device that is not known here.
    """
    with (
        node.connections.use(handle.location.cluster_id) as connection,
        contextlib.suppress(errors.NotFound),  # the pool is gone, with the record
    ):
        location = node.locations.open(connection, handle.location)
        records = store.Records(location.ioctx)
        stored = records.read(handle.image_id)
        attachment = stored.record.attachments.get(node.node_id)
        if attachment is None:
            return
        gone = {
            client.address
            for client in attachment.clients
            if client.address in unmapped or node.proves_gone(client)
        }
        if were_dead and node.may_fence:
            dead = [client for client in attachment.clients if client.address in unmapped]
            _end_watches(node, connection, handle, dead)
        unproved = [client for client in attachment.clients if client.address not in gone]
        if unproved:
            gone |= _ended(node, connection, handle, unproved)
        records.change(
            handle.image_id,
            lambda record: rules.release(
                record, node.node_id, lambda client: client.address in gone, clock.now()
            ),
            stored,
        )
        steps.done("unstage.record", volume=str(handle))


def _ended(
    node: ThisNode, connection: Connection, handle: ids.VolumeHandle, clients: list[Client]
) -> set[str]:
    """Return those of the clients that are gone, after the volume's daemons here are stopped.

    That a client does not watch the image proves nothing: it may have lost Ceph for a while. So one
    of this machine is fenced, unless the operator forbids it, and one of an unknown machine, too.
    Those of other machines are theirs to release.

    Raises:
        Busy: a client of this machine watches the image still.
    """
    images = node.locations.open(connection, handle.location).images
    node.devices.clear(handle, connection.fsid)
    try:
        watchers = images.watchers(handle.image_id)
    except errors.NotFound:  # no image is left to protect
        return {client.address for client in clients}
    own = {c.address for c in clients if c.machine_id == node.machine.machine_id}
    if watching := own & watchers:
        raise errors.Busy(
            f"volume {handle} is not released, because client {', '.join(watching)} of this node "
            "still has its image open, and this node has no device of it; if that client has just "
            "ended, Ceph forgets it within a minute; otherwise a detach fences it"
        )
    unknown = {c.address for c in clients if not c.machine_id} - watchers
    for client in clients:
        if node.may_fence and client.address in own | unknown:
            _fence(node, connection, handle, client)
    return own | unknown if node.may_fence else own


def _end_watches(
    node: ThisNode, connection: Connection, handle: ids.VolumeHandle, clients: list[Client]
) -> None:
    images = node.locations.open(connection, handle.location).images
    with contextlib.suppress(errors.NotFound):  # the image is gone
        watchers = images.watchers(handle.image_id)
        for client in clients:
            if client.address in watchers:
                _fence(node, connection, handle, client)


def _fence(
    node: ThisNode, connection: Connection, handle: ids.VolumeHandle, client: Client
) -> None:
    images = node.locations.open(connection, handle.location).images
    fencing.fence(connection, images, str(handle), handle.image_id, node.node_id, client)
