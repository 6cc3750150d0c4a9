"""Who may attach, stage, release and detach: pure functions from a record to the next one.

Each is applied by compare-and-swap, so it decides on the record that it replaces.
"""

import dataclasses

from rbdcsi import errors
from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.model.capabilities import AccessMode, Capability, covers


def attach(
    record: VolumeRecord, volume: str, node: str, asked: Capability, readonly: bool, now: str
) -> VolumeRecord:
    """Let a node use the volume; a repeat changes nothing (CSI: ControllerPublishVolume).

    Raises:
        NotFound: the volume is being deleted.
        AlreadyExists: the node has it in another mode, or with another access type.
        Refused: another node has it in a way that excludes this one; the holder is named.
        Busy: the node is just being detached.
    """
    if record.deleting:
        raise errors.NotFound(f"volume {volume} is being deleted since {record.deleting}")
    held = record.attachments.get(node)
    if held:
        return _attached_again(record, held, volume, node, asked, readonly)
    for other, theirs in record.attachments.items():
        if not _together(theirs, asked.mode, readonly):
            raise errors.Refused(
                f"volume {volume} is {theirs.state.value} at node {other!r} as {_how(theirs)} "
                f"since {theirs.since}, so node {node!r} cannot have it as "
                f"{_words(asked.mode, readonly, asked.block)}; it must be detached from "
                f"{other!r} first (delete the Pod that uses it there)"
            )
    generation = record.generation + 1
    fresh = Attachment(asked.mode, readonly, generation, State.ATTACHED, now, block=asked.block)
    return dataclasses.replace(record.having(node, fresh), generation=generation)


def withdraw(record: VolumeRecord, node: str, attachment: Attachment) -> VolumeRecord:
    """Take an attachment back, if nothing has come of it meanwhile."""
    return record.without(node) if record.attachments.get(node) == attachment else record


def _attached_again(
    record: VolumeRecord, held: Attachment, volume: str, node: str, asked: Capability, ro: bool
) -> VolumeRecord:
    same_access = held.block in {asked.block, None}
    if (held.mode, held.readonly) != (asked.mode, ro) or not same_access:
        raise errors.AlreadyExists(
            f"volume {volume} is attached to node {node!r} as {_how(held)}, not as "
            f"{_words(asked.mode, ro, asked.block)}; detach it there first"
        )
    if held.state is State.DETACHING:
        raise errors.Busy(
            f"volume {volume} is being detached from node {node!r} since {held.since}; "
            "attach again when that is done"
        )
    return record


def _together(theirs: Attachment, mode: AccessMode, readonly: bool) -> bool:
    """Tell whether attachments of two nodes can be at the same time."""
    if theirs.mode.single_node or theirs.mode is not mode:
        return False
    if mode is AccessMode.MULTI_NODE_SINGLE_WRITER:
        return theirs.readonly or readonly
    return True


def stage(
    record: VolumeRecord, volume: str, node: str, generation: int, client: str | None, now: str
) -> VolumeRecord:
    """Note that the node has the image mapped by `client`.

    Raises:
        Refused: the node does not have, or no longer has, the attachment of that generation.
    """
    held = require(record, volume, node, generation)
    if (held.state, held.client) == (State.STAGED, client):
        return record
    return record.having(
        node, dataclasses.replace(held, state=State.STAGED, client=client, since=now)
    )


def require(record: VolumeRecord, volume: str, node: str, generation: int) -> Attachment:
    """Return the node's attachment of that generation, which must be in force; Refused if not."""
    held = record.attachments.get(node)
    if held is None:
        holders = ", ".join(sorted(record.attachments)) or "no node"
        raise errors.Refused(
            f"volume {volume} is not attached to node {node!r} (attached: {holders}); "
            "ControllerPublishVolume must come first"
        )
    if held.generation != generation:
        raise errors.Refused(
            f"volume {volume} is attached to node {node!r} with generation {held.generation}, but "
            f"the call carries generation {generation}: it belongs to an attachment that has ended"
        )
    if held.state is State.DETACHING:
        raise errors.Refused(f"volume {volume} is being detached from node {node!r}")
    return held


def require_covered(attachment: Attachment, asked: Capability, volume: str, node: str) -> None:
    """Refuse to stage a volume otherwise than it is attached.

    An attachment without access type is taken for a block device's if several nodes may write:
    no filesystem is attached so.

    Raises:
        Refused: another access type, or a mode that the attachment does not cover.
    """
    block, mode = attachment.block, attachment.mode
    if block is None and not mode.single_node and not mode.reader_only:
        block = True
    if block in {asked.block, None} and covers(mode, asked.mode):
        return
    raise errors.Refused(
        f"volume {volume} is attached to node {node!r} as {_how(attachment)}, which does not allow "
        f"to stage it as {asked}; two PersistentVolumes of one volume share its attachment: use "
        "one of them at a time, or give both the same volumeMode and accessModes"
    )


def release(record: VolumeRecord, node: str, now: str) -> VolumeRecord:
    """Note that the node has unmapped the image; without an attachment nothing is to be noted."""
    held = record.attachments.get(node)
    if held is None or held.state in {State.RELEASED, State.DETACHING}:
        return record
    return record.having(
        node, dataclasses.replace(held, state=State.RELEASED, client=None, since=now)
    )


def begin_detach(record: VolumeRecord, volume: str, node: str, now: str) -> VolumeRecord:
    """Refuse the node from now on, if it has let go or never began.

    Raises:
        Refused: the node still has the volume staged.
    """
    held = record.attachments.get(node)
    if held is None or held.state is State.DETACHING:
        return record
    if held.state is State.STAGED:
        raise errors.Refused(
            f"volume {volume} is still staged at node {node!r} since {held.since} by client "
            f"{held.client}: the node has not let go of it; it must be unstaged there first "
            "(end the Pod; if the node is down, bring it back)"
        )
    return record.having(
        node, dataclasses.replace(held, state=State.DETACHING, client=None, since=now)
    )


def begin_delete(record: VolumeRecord, volume: str, now: str) -> VolumeRecord:
    """Refuse every attachment from now on; Refused while there is one (CSI: DeleteVolume)."""
    if record.attachments:
        holders = ", ".join(
            f"{node!r} ({held.state.value} since {held.since})"
            for node, held in sorted(record.attachments.items())
        )
        raise errors.Refused(f"volume {volume} is attached to {holders}; detach it there first")
    return record if record.deleting else dataclasses.replace(record, deleting=now)


def _how(held: Attachment) -> str:
    return _words(held.mode, held.readonly, held.block)


def _words(mode: AccessMode, readonly: bool, block: bool | None) -> str:
    access = "" if block is None else ", block" if block else ", mount"
    return f"{mode.value} ({'read-only' if readonly else 'read-write'}{access})"
