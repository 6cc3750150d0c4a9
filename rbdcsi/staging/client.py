"""Which Ceph client holds a device: the client that a fence would shut out."""

from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.host.mappers.interface import MappedDevice


def client_of(
    device: MappedDevice,
    node_id: str,
    record: VolumeRecord,
    list_watchers: Callable[[], frozenset[str]],
    before: frozenset[str] | None,
) -> str | None:
    """Return the Ceph client that holds the device, `ip:port/nonce`; None if it needs no fence.

    - krbd: the kernel reports the client.
    - Other mappers: librbd watches each image that it has open for writing, so the client is one
      of the image's watchers. After a new mapping, it is the watcher that appeared since it began.
      For an adopted device it is the recorded client, or otherwise the one watcher that no other
      node's attachment explains.
    - A read-only device of rbd-nbd has no watcher; one of qemu-storage-daemon has.

    Args:
        device: as the mapper returned it.
        node_id: this node.
        record: the volume's; it has an attachment of this node.
        list_watchers: lists the image's watchers now, after the mapping.
        before: the image's watchers before the mapping; None if the device was adopted.

    Raises:
        Busy: several watchers could be the client, and none is guessed.
    """
    if device.client:
        return device.client
    watchers = list_watchers()
    others = {
        client.address
        for node, attachment in record.attachments.items()
        if node != node_id
        for client in attachment.clients
    }
    recorded = record.attachments[node_id].client
    if before is None:
        candidates = watchers & {recorded} or watchers - others
    else:
        candidates = watchers - before - others
    if device.readonly and not candidates:
        return None
    if len(candidates) != 1:
        raise errors.Busy(
            f"volume of image {device.image_id}: of the clients that have it open "
            f"({', '.join(sorted(watchers)) or 'none'}) it is not known which one holds "
            f"{device.path}; try again when the others are gone"
        )
    (client,) = candidates
    return client
