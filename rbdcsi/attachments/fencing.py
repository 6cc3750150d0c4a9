"""Fences a client: after it, nothing that the client does can change the image.

Why the next holder reads no late write: OSDs learn of an entry lazily, but the next holder maps
with a fresh client, whose OSD map has the entry; an OSD that gets an operation tagged with a newer
map than its own waits for that map. So a late write can land only in an object that the next holder
has not touched yet, as if it had come before. See docs/explanation/attach.md.
"""

import contextlib
import dataclasses

from rbdcsi import errors
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.attachments.records import Client
from rbdcsi.ceph import blocklist
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.images import Images
from rbdcsi.runtime import clock
from rbdcsi.telemetry import metrics, steps

SECONDS = 24 * 3600.0  # a controller renews the entry long before


def fence(
    connection: Connection, images: Images, volume: str, image_id: str, node_id: str, client: Client
) -> None:
    """Shut a client out of the cluster, and break its lock of the image.

    Each step may be the last one before a crash; the same call again carries on.

    Args:
        connection: to the cluster.
        images: those of the volume's location.
        volume: the volume handle, for the note.
        image_id: the volume's image.
        node_id: the node that the client belongs to.
        client: the client; all its uses of the cluster end.

    Raises:
        Forbidden: the Ceph user may not fence.
        Unavailable: Ceph does not answer.
    """
    fences, now = Fences(connection.home()), clock.now()
    note = Fence(
        address=client.address,
        volume=volume,
        node_id=node_id,
        machine_id=client.machine_id,
        boot_id=client.boot_id,
        since=now,
        until=now,
    )
    fences.put(note)
    steps.done("fence.note", volume=volume, client=client.address)
    enter(connection, fences, note)
    steps.done("fence.blocklist", volume=volume, client=client.address)
    with contextlib.suppress(errors.NotFound):
        images.break_lock(image_id, client.address)  # it saves the next holder a second
        steps.done("fence.lock", volume=volume, client=client.address)
    metrics.FENCED.labels(connection.cluster_id).inc()


def enter(connection: Connection, fences: Fences, note: Fence) -> None:
    """Make or renew the entry of a fence, and note until when it lasts.

    If another process changed or lifted the fence in between, the note is written again, because an
    entry without a note would never be lifted; the node reports once more that the client is gone.

    Args:
        connection: to the cluster.
        fences: of the cluster.
        note: the fence as it is stored.

    Raises:
        Forbidden, Unavailable: see `blocklist.add`.
    """
    epoch = blocklist.add(connection, note.address, SECONDS)
    entered = dataclasses.replace(note, epoch=epoch, until=clock.after(SECONDS))
    if not fences.change(note, entered):
        fences.put(entered)
