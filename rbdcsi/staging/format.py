"""The filesystem on a staged device, by the rule that data is never destroyed.

Two things must agree before mkfs: the image's metadata says that no filesystem was ever finished,
and the device, read to be sure, is blank. `decide` is that rule, whole; the rest carries it out.
"""

import enum
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from rbdcsi import errors
from rbdcsi.ceph.images import Images
from rbdcsi.host.block import signature
from rbdcsi.host.fs import filesystems
from rbdcsi.telemetry import steps

KEY = "rbdcsi.filesystem"

READ_SECONDS = 30.0
_MAKE_SECONDS = 300.0
_CHECK_SECONDS = 300.0


class Phase(enum.Enum):
    """How far the one mkfs in a volume's life is."""

    FORMATTING = "formatting"  # begun; the device may hold anything mkfs writes, and no data
    FORMATTED = "formatted"  # finished; the device may hold data


@dataclass(frozen=True)
class Mark:
    """What image metadata says about the filesystem."""

    phase: Phase
    fs_type: str

    def encode(self) -> str:
        """Write the mark as the metadata's value."""
        return json.dumps({"state": self.phase.value, "type": self.fs_type})


@dataclass(frozen=True)
class Marked:
    """An image, by its id and its name for messages, with the text of its mark.

    One made by hand, not by this driver, is never formatted: it may hold anything.
    """

    images: Images
    image_id: str
    name: str
    text: str | None
    by_hand: bool

    def set(self, old: str | None, new: Mark) -> None:
        """Change the mark; Busy if it is not the old one any more."""
        text = new.encode()
        if text != old and not self.images.set_metadata(
            self.image_id, {KEY: text}, key=KEY, old=old
        ):
            raise errors.Busy(
                f"image {self.name}: another node changed metadata {KEY} just now; try again"
            )


class Action(enum.Enum):
    """What has to be done before the device can be mounted."""

    MOUNT = "mount"
    MAKE = "make"  # DESTROYS what is on the device: nothing is, by `decide`
    MAKE_AGAIN = "make again"  # DESTROYS what an interrupted mkfs of ours left


def read_mark(text: str | None, image: str) -> Mark | None:
    """Read the mark, None if no filesystem was ever begun; Failed if it is damaged."""
    if text is None:
        return None
    try:
        facts = json.loads(text)
        return Mark(Phase(facts["state"]), str(facts["type"]))
    except (ValueError, KeyError, TypeError) as error:
        raise errors.Failed(
            f"image {image}: metadata {KEY} is damaged ({text!r}), so it cannot be told whether "
            "there is data, and nothing is formatted; look at the image, then set it to "
            f"{Mark(Phase.FORMATTED, 'ext4').encode()} if it holds a filesystem"
        ) from error


def decide(
    mark: Mark | None,
    found: signature.Blank | signature.Signature,
    fs_type: str,
    *,
    readonly: bool,
    image: str,
    by_hand: bool = False,
) -> Action:
    """Decide what to do with a device.

    Args:
        mark: what the image's metadata says.
        found: what reading the device said; one that could not be read does not come here.
        fs_type: the filesystem that is wanted.
        readonly: nothing may be written.
        image: its name, for the message.
        by_hand: the image was not made by this driver, so it is never formatted.

    Raises:
        Refused: the two do not agree, or nothing was ever written and may not be now.
    """
    there = None if isinstance(found, signature.Blank) else found.fs_type
    if by_hand and mark is None:
        return _action_by_hand(there, fs_type, image)
    action = _action(mark, there, fs_type, image)
    if readonly and action is not Action.MOUNT:
        raise errors.Refused(
            f"image {image} holds no filesystem yet, and read-only use cannot make one; "
            "attach it once read-write"
        )
    return action


def _action(mark: Mark | None, there: str | None, fs_type: str, image: str) -> Action:
    if mark is None:
        if there is None:
            return Action.MAKE
        raise errors.Refused(
            f"image {image} was never formatted by this driver, but holds {there}; it is left as "
            f"it is. If that is to be used: `rbd image-meta set {image} {KEY} "
            f"'{Mark(Phase.FORMATTED, there).encode()}'`"
        )
    if mark.fs_type != fs_type:
        raise errors.Refused(
            f"image {image} is {mark.phase.value} as {mark.fs_type}, not {fs_type}; "
            f"use fsType {mark.fs_type}"
        )
    if mark.phase is Phase.FORMATTING:
        return _action_unfinished(there, fs_type, image)
    if there == fs_type:
        return Action.MOUNT
    raise errors.Refused(
        f"image {image} was formatted as {fs_type}, but reads as {there or 'blank'}: its data is "
        "damaged or gone, and nothing is written over it; look at it with `rbd` and restore a "
        "snapshot or backup"
    )


def _action_by_hand(there: str | None, fs_type: str, image: str) -> Action:
    if there == fs_type:
        return Action.MOUNT
    raise errors.Refused(
        f"image {image} was not made by this driver, so it is never formatted; it must hold "
        f"{fs_type}, found is {there or 'no filesystem'}: make one by hand (`rbd map`, "
        f"`mkfs.{fs_type}`), or set fsType in the PersistentVolume to what is there"
    )


def _action_unfinished(there: str | None, fs_type: str, image: str) -> Action:
    if there is None:
        return Action.MAKE
    if there in (fs_type, signature.UNKNOWN):
        return Action.MAKE_AGAIN
    raise errors.Refused(
        f"image {image}: making {fs_type} on it was interrupted, and now it holds {there}, which "
        f"this driver did not write; it is left as it is"
    )


def prepare(
    image: Marked,
    device: Path,
    found: signature.Blank | signature.Signature,
    fs_type: str,
    mkfs_options: str,
    *,
    readonly: bool,
) -> None:
    """Make the device ready to be mounted: with a filesystem of that type, checked.

    Args:
        image: its metadata is changed before and after mkfs; nothing is made if that differs now.
        device: where it is mapped.
        found: what reading the device said after the metadata was read.
        fs_type: the filesystem that is wanted.
        mkfs_options: as a shell would split them; empty for the defaults.
        readonly: nothing may be written.

    Raises:
        Refused: see `decide`, and damage that fsck does not mend by itself.
        Busy: another node changed the mark.
    """
    name, mark = image.name, read_mark(image.text, image.name)
    match decide(mark, found, fs_type, readonly=readonly, image=name, by_hand=image.by_hand):
        case Action.MAKE | Action.MAKE_AGAIN:
            begun = Mark(Phase.FORMATTING, fs_type)
            image.set(image.text, begun)
            steps.done("stage.formatting", image=name, fs_type=fs_type)
            _make(device, fs_type, mkfs_options, found)
            steps.done("stage.mkfs", image=name, fs_type=fs_type)
            image.set(begun.encode(), Mark(Phase.FORMATTED, fs_type))
            steps.done("stage.formatted", image=name, fs_type=fs_type)
        case Action.MOUNT if not readonly:
            filesystems.check(device, fs_type, seconds=_CHECK_SECONDS)
        case Action.MOUNT:
            pass


def _make(
    device: Path, fs_type: str, mkfs_options: str, found: signature.Blank | signature.Signature
) -> None:
    if found != signature.Blank():
        # what an interrupted mkfs left is zeroed, so mkfs itself is never told to force
        filesystems.erase_signature(device, fs_type, seconds=READ_SECONDS)
        found = signature.content(device, seconds=READ_SECONDS)
    filesystems.make(device, fs_type, shlex.split(mkfs_options), found, seconds=_MAKE_SECONDS)
