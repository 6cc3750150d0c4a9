"""Pure: the rule that the driver never destroys data.

Two facts must agree before mkfs: the image's mark says that no filesystem was ever finished and
that no workload used the image as a raw block device, and the device, which was read, is blank.
`decide` and `needs_raw_mark` are that rule. Two refusals that need more facts are elsewhere:
`format` refuses an unmarked image that has objects in Ceph, and `stage` a filesystem on a volume
that was made for raw block use.
"""

import enum

from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.model.format_mark import KEY, MARK, Mark, Phase


class Action(enum.Enum):
    """The action that the device needs before it can be mounted."""

    MOUNT = "mount"
    MAKE = "make"  # DESTROYS the device's content: `decide` has made sure that there is none
    MAKE_AGAIN = "make again"  # DESTROYS the leftovers of an interrupted mkfs of this driver


def decide(
    mark: Mark | None,
    content: signature.Content,
    fs_type: str,
    *,
    readonly: bool,
    image: str,
    unmanaged: bool = False,
) -> Action:
    """Decide what to do with a device.

    Args:
        mark: what the image's metadata says.
        content: the result of reading the device; an unreadable device does not come here.
        fs_type: the filesystem that the call asks for.
        readonly: nothing may be written.
        image: its name, for the message.
        unmanaged: the driver did not make the image, so the image is never formatted.

    Raises:
        Refused: mark and content do not agree, or the image has no filesystem and is read-only.
    """
    content_type = None if isinstance(content, signature.BlankContent) else content.fs_type
    if unmanaged and mark is None:
        return _unmanaged_action(content_type, fs_type, image)
    action = _action(mark, content_type, fs_type, image)
    if unmanaged and action is not Action.MOUNT:
        raise errors.UnexpectedContent(
            f"image {image} was not made by this driver, so it is never formatted, but its "
            f"metadata {KEY} says that making {fs_type} on it was begun; look at the image, then "
            f"remove that metadata: `rbd image-meta remove {image} {KEY}`"
        )
    if readonly and action is not Action.MOUNT:
        raise errors.UnexpectedContent(
            f"image {image} holds no filesystem yet, and read-only use cannot make one; "
            "attach it once read-write"
        )
    return action


def _action(mark: Mark | None, content_type: str | None, fs_type: str, image: str) -> Action:
    if mark is None:
        if content_type is None:
            return Action.MAKE
        raise errors.UnexpectedContent(
            f"image {image} was never formatted by this driver, but holds {content_type}; it is "
            f"left as it is. If that is to be used: `rbd image-meta set {image} {KEY} "
            f"'{MARK.encode(Mark(Phase.FORMATTED, content_type))}'`"
        )
    if mark.phase is Phase.RAW:
        raise errors.UnexpectedContent(
            f"image {image} was used as a raw block device, and may hold data without a "
            f"signature (it reads as {content_type or 'blank'}), so it is neither formatted nor "
            f"mounted; use it as a block device. If it holds a filesystem: `rbd image-meta set "
            f"{image} {KEY} '{MARK.encode(Mark(Phase.FORMATTED, fs_type))}'`"
        )
    if mark.fs_type != fs_type:
        raise errors.UnexpectedContent(
            f"image {image} is {mark.phase.value} as {mark.fs_type}, not {fs_type}; "
            f"use fsType {mark.fs_type}"
        )
    if mark.phase is Phase.FORMATTING:
        return _unfinished_action(content_type, fs_type, image)
    if content_type == fs_type:
        return Action.MOUNT
    raise errors.UnexpectedContent(
        f"image {image} was formatted as {fs_type}, but reads as {content_type or 'blank'}: its "
        "data is damaged or gone, and nothing is written over it; look at it with `rbd` and "
        "restore a snapshot or backup"
    )


def hides_superblock(mark: Mark | None, content: signature.Content, fs_type: str) -> bool:
    """Return whether other data may hide the superblock of a filesystem that was finished.

    A file's blocks can hold the signature of anything, an ISO 9660 image's for one. So if the
    image is `formatted`, it is mounted if the filesystem's own superblock is there, whatever else
    is. This counts only for mounting: `decide` never formats such an image.
    """
    return (
        mark is not None
        and (mark.phase, mark.fs_type) == (Phase.FORMATTED, fs_type)
        and isinstance(content, signature.Signature)
        and content.fs_type != fs_type
    )


def _unmanaged_action(content_type: str | None, fs_type: str, image: str) -> Action:
    if content_type == fs_type:
        return Action.MOUNT
    raise errors.UnexpectedContent(
        f"image {image} was not made by this driver, so it is never formatted; it must hold "
        f"{fs_type}, found is {content_type or 'no filesystem'}: make one by hand (`rbd map`, "
        f"`mkfs.{fs_type}`), or set fsType in the PersistentVolume to what is there"
    )


def _unfinished_action(content_type: str | None, fs_type: str, image: str) -> Action:
    if content_type is None:
        return Action.MAKE
    if content_type in (fs_type, signature.UNKNOWN):
        return Action.MAKE_AGAIN
    raise errors.UnexpectedContent(
        f"image {image}: making {fs_type} on it was interrupted, and now it holds {content_type}, "
        "which this driver did not write; it is left as it is"
    )


def needs_raw_mark(mark: Mark | None, image: str) -> bool:
    """Return whether raw use must be marked, so that the image is never formatted after it.

    Raises:
        Refused: making a filesystem was begun; it would be made again, over what raw use wrote.
    """
    if mark is None or mark.phase is Phase.RAW:
        return True
    if mark.phase is Phase.FORMATTING:
        raise errors.UnexpectedContent(
            f"image {image}: making {mark.fs_type} on it was interrupted, so it cannot be used as "
            "a raw block device; stage it once with that filesystem, which finishes it, or remove "
            f"the mark if the image shall be used raw: `rbd image-meta remove {image} {KEY}`"
        )
    return False
