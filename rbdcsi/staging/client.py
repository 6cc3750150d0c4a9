"""Which Ceph client holds a device: the client that a fence would shut out."""

from collections.abc import Set

from rbdcsi import errors
from rbdcsi.attachments.records import Attachment, VolumeRecord
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.staging.notes import Note


def client_of_new(
    device: MappedDevice, record: VolumeRecord, watchers: Set[str], before: Set[str]
) -> str | None:
    """Return the Ceph client of a device that was just mapped, `ip:port/nonce`.

    - krbd: the kernel reports the client.
    - Other mappers: librbd watches each image that it has open for writing, so the client is the
      watcher that appeared since the mapping began.
    - A read-only device of krbd or rbd-nbd watches nothing; one of qemu-storage-daemon does.

    Args:
        device: as the mapper returned it.
        record: the volume's.
        watchers: those of the image with the volume's id, after the mapping.
        before: those before the mapping.

    Returns:
        None if the device is read-only and no watcher can be its client: it needs no fence.

    Raises:
        Busy: no watcher, or several, can be the client. If there is none, the device may show
            another image, which has taken the name.
    """
    others = {c.address for each in record.attachments.values() for c in each.clients}
    candidates = watchers - before - others
    if device.readonly and device.mapper == "nbd":
        return None
    if device.client:
        candidates = watchers & {device.client}
    if device.readonly and not candidates:
        return device.client
    if len(candidates) != 1:
        raise errors.Busy(
            f"image {device.image_id}: its watchers ({', '.join(sorted(watchers)) or 'none'}) do "
            f"not show for certain which client holds {device.path}; either another image has "
            "taken its name, or another client opened it at the same moment; try again"
        )
    (client,) = candidates
    return client


def client_of_existing(
    device: MappedDevice,
    note: Note | None,
    attachment: Attachment,
    watchers: Set[str],
) -> str | None:
    """Return the client of a device that may be adopted, None if it must be mapped again.

    Only a client that the attachment has is as new as the attachment. A device of an older driver
    has no note; it is that of the attachment's only client, if that one watches the image.

    Args:
        device: the volume's device, which this plugin mapped.
        note: of its mapping.
        attachment: this node's.
        watchers: those of the image.
    """
    recorded = {client.address for client in attachment.clients}
    if device.client or (note and note.client):
        client = device.client or (note.client if note else "")
        return client if client in recorded else None
    if note is None and len(recorded) == 1 and recorded <= watchers:
        (client,) = recorded
        return client
    return None


def is_of_generation(device: MappedDevice, note: Note | None, generation: int) -> bool:
    """Return whether a read-only device without a client was mapped for this attachment."""
    return (
        note is not None
        and device.readonly
        and not (device.client or note.client)
        and (note.device, note.generation) == (str(device.path), generation)
    )
