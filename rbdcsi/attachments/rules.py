"""Who may attach, stage, release and detach: pure functions from a record to the next one.

Each is applied by compare-and-swap, so it decides on the record that it replaces.
"""

import dataclasses
from collections.abc import Callable

from rbdcsi import errors
from rbdcsi.attachments import image_rules
from rbdcsi.attachments.records import Attachment, Client, State, VolumeRecord
from rbdcsi.model.capabilities import AccessMode, AccessType, Capability, covers


def attach(
    record: VolumeRecord,
    volume: str,
    node: str,
    asked: Capability,
    readonly: bool,
    now: str,
    *,
    settles: bool = False,
) -> VolumeRecord:
    """Let a node use the volume; a repeat changes nothing (CSI: ControllerPublishVolume).

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        node: the node's id.
        asked: how the node will use the volume.
        readonly: whether it will only read.
        now: the time, ISO 8601 in UTC.
        settles: whether the volume's filesystem must be written to before it is read; the first
            node does it.

    Raises:
        NotFound: the volume is being deleted.
        AlreadyExists: the node has the volume in another mode, or with another access type.
        Refused: another node has it in a way that excludes this one, and the message names that
            node; or the image is being rolled back.
        Busy: the volume is being detached from the node, or another node still settles it.
    """
    image_rules.require_existing(record, volume)
    image_rules.require_whole(record, volume)
    attachment = record.attachments.get(node)
    if attachment:
        _require_same(attachment, volume, node, asked, readonly)
        return record
    for other_node, other in record.attachments.items():
        if not _compatible(other, asked.mode, readonly):
            raise errors.Refused(
                f"volume {volume} is {other.state.value} at node {other_node!r} as "
                f"{_described(other)} since {other.since}, so node {node!r} cannot have it as "
                f"{_mode_text(asked.mode, readonly, asked.access_type)}; it must be detached from "
                f"{other_node!r} first (delete the Pod that uses it there)"
            )
        if other.settles:
            raise errors.Busy(
                f"volume {volume} is a copy whose journal node {other_node!r} replays, since "
                f"{other.since}, before several nodes read it; try again (it ends when the volume "
                "is staged there, or detached from there)"
            )
    generation = record.generation + 1
    attachment = Attachment(
        asked.mode,
        readonly,
        generation,
        State.ATTACHED,
        now,
        access_type=asked.access_type,
        settles=settles and readonly and not record.attachments,
    )
    return dataclasses.replace(record.having(node, attachment), generation=generation)


def settled(record: VolumeRecord, volume: str, node: str, generation: int) -> VolumeRecord:
    """Note that a node has replayed the journal, and has the image mapped for writing no longer.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        node: the node's id.
        generation: of the node's attachment.

    Raises:
        NotAttached: the node has no attachment of that generation.
        Busy: a client that may write is still in the record.
    """
    attachment = require(record, volume, node, generation)
    if attachment.settles and attachment.clients:
        raise errors.Busy(
            f"volume {volume}: node {node!r} still has it mapped for writing; repeat the call"
        )
    return record.having(node, dataclasses.replace(attachment, settles=False))


def revert(record: VolumeRecord, node: str, attachment: Attachment) -> VolumeRecord:
    """Remove an attachment that was just made, unless it has changed since."""
    return record.without(node) if record.attachments.get(node) == attachment else record


def _require_same(
    attachment: Attachment, volume: str, node: str, asked: Capability, readonly: bool
) -> None:
    same_access = attachment.access_type in {asked.access_type, None}
    if (attachment.mode, attachment.readonly) != (asked.mode, readonly) or not same_access:
        raise errors.AlreadyExists(
            f"volume {volume} is attached to node {node!r} as {_described(attachment)}, not as "
            f"{_mode_text(asked.mode, readonly, asked.access_type)}; detach it there first"
        )
    if attachment.state is State.DETACHING:
        raise errors.Busy(
            f"volume {volume} is being detached from node {node!r} since {attachment.since}; "
            "attach again when that is done"
        )


def _compatible(other: Attachment, mode: AccessMode, readonly: bool) -> bool:
    """Return whether another node's attachment and a new one can exist at the same time."""
    if other.mode.single_node or other.mode is not mode:
        return False
    if mode is AccessMode.MULTI_NODE_SINGLE_WRITER:
        return other.readonly or readonly
    return True


def stage(
    record: VolumeRecord, volume: str, node: str, generation: int, client: Client | None, now: str
) -> VolumeRecord:
    """Note that a client of the node has mapped the image.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        node: the node's id.
        generation: of the attachment by which the node uses the volume.
        client: the Ceph client that holds the device; None if none needs a fence.
        now: the time, ISO 8601 in UTC.

    Raises:
        Refused: the node has no attachment of that generation.
    """
    attachment = require(record, volume, node, generation)
    others = tuple(c for c in attachment.clients if client is None or c.address != client.address)
    clients = others if client is None else (*others, client)
    if attachment.state is State.STAGED and attachment.recorded_clients == clients:
        return record
    staged = dataclasses.replace(attachment, state=State.STAGED, since=now)
    return record.having(node, staged.having_clients(clients))


def require(record: VolumeRecord, volume: str, node: str, generation: int) -> Attachment:
    """Return the node's attachment, which must have that generation and not be detaching.

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        node: the node's id.
        generation: that the call carries.

    Raises:
        NotAttached: there is no such attachment.
    """
    attachment = record.attachments.get(node)
    if attachment is None:
        nodes = ", ".join(sorted(record.attachments)) or "no node"
        raise errors.NotAttached(
            f"volume {volume} is not attached to node {node!r} (attached: {nodes}); "
            "ControllerPublishVolume must come first"
        )
    if attachment.generation != generation:
        raise errors.NotAttached(
            f"volume {volume} is attached to node {node!r} with generation "
            f"{attachment.generation}, but the call carries generation {generation}: it belongs to "
            "an attachment that has ended"
        )
    if attachment.state is State.DETACHING:
        raise errors.NotAttached(
            f"volume {volume} is being detached from node {node!r} since {attachment.since}, so it "
            "is not staged there; attach it again when that is done"
        )
    return attachment


def require_covered(attachment: Attachment, asked: Capability, volume: str, node: str) -> None:
    """Check that a volume is staged as it is attached.

    Older records lack the access type. If several nodes may write, it must be block, because a
    filesystem is never attached that way.

    Args:
        attachment: the node's.
        asked: how the node wants to stage the volume.
        volume: the volume handle, for messages.
        node: the node's id.

    Raises:
        NotAttached: another access type, or a mode that the attachment does not cover.
    """
    access_type, mode = attachment.access_type, attachment.mode
    if access_type is None and not mode.single_node and not mode.reader_only:
        access_type = AccessType.BLOCK
    if access_type in {asked.access_type, None} and covers(mode, asked.mode):
        return
    raise errors.NotAttached(
        f"volume {volume} is attached to node {node!r} as {_described(attachment)}, which does not "
        f"allow to stage it as {asked}; two PersistentVolumes of one volume share its attachment: "
        "use one of them at a time, or give both the same volumeMode and accessModes"
    )


def release(
    record: VolumeRecord, node: str, is_gone: Callable[[Client], bool], now: str
) -> VolumeRecord:
    """Note that clients of the node are gone; without an attachment nothing changes.

    It needs no generation, because a client's address is never used twice.

    Args:
        record: the volume's.
        node: the node's id.
        is_gone: whether it is proved that this client cannot use the image any more.
        now: the time, ISO 8601 in UTC.
    """
    attachment = record.attachments.get(node)
    if attachment is None:
        return record
    clients = tuple(client for client in attachment.clients if not is_gone(client))
    changed = attachment.having_clients(clients)
    if not clients and attachment.state is not State.DETACHING:
        changed = dataclasses.replace(changed, state=State.RELEASED)
    if changed == attachment:
        return record
    return record.having(node, dataclasses.replace(changed, since=now))


def begin_detach(record: VolumeRecord, node: str, generation: int, now: str) -> VolumeRecord:
    """Refuse the node from now on; its clients stay in the record until they are proved gone.

    An attachment without clients ends at once: a node that maps the image now cannot record its
    client any more, so it unmaps the image without having read or written it.

    Args:
        record: the volume's.
        node: the node's id.
        generation: of the attachment that ends; another one is left as it is.
        now: the time, ISO 8601 in UTC.
    """
    attachment = record.attachments.get(node)
    if attachment is None or attachment.generation != generation:
        return record
    if not attachment.clients:
        return record.without(node)
    if attachment.state is State.DETACHING:
        return record
    return record.having(node, dataclasses.replace(attachment, state=State.DETACHING, since=now))


def finish_detach(
    record: VolumeRecord, node: str, generation: int, is_gone: Callable[[Client], bool]
) -> VolumeRecord:
    """Remove the clients that are gone, and the attachment after the last of them.

    Args:
        record: the volume's.
        node: the node's id.
        generation: of the attachment that ends; another one is left as it is.
        is_gone: whether it is proved that this client cannot use the image any more.
    """
    attachment = record.attachments.get(node)
    if attachment is None or attachment.generation != generation:
        return record
    clients = tuple(client for client in attachment.clients if not is_gone(client))
    if not clients:
        return record.without(node)
    return record.having(node, attachment.having_clients(clients))


def begin_delete(record: VolumeRecord, volume: str, now: str) -> VolumeRecord:
    """Refuse every attachment from now on (CSI: DeleteVolume).

    Args:
        record: the volume's.
        volume: the volume handle, for messages.
        now: the time, ISO 8601 in UTC.

    Raises:
        Refused: the volume is attached, or its image is being rolled back.
    """
    image_rules.require_whole(record, volume)
    image_rules.require_detached(record, volume)
    return record if record.deleting else dataclasses.replace(record, deleting=now)


def _described(attachment: Attachment) -> str:
    return _mode_text(attachment.mode, attachment.readonly, attachment.access_type)


def _mode_text(mode: AccessMode, readonly: bool, access_type: AccessType | None) -> str:
    access = f", {access_type.value}" if access_type else ""
    return f"{mode.value} ({'read-only' if readonly else 'read-write'}{access})"
