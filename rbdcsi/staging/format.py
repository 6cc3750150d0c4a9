"""The filesystem on a staged device, by the rule that data is never destroyed.

Two things must agree before mkfs: the image's metadata says that no filesystem was ever finished
and that no workload used the image as a raw block device, and the device, read to be sure, is
blank. `decide` and `needs_raw_mark` are that rule, whole; the rest carries it out.
"""

import dataclasses
import enum
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """How the image was used so far."""

    RAW = "raw"  # as a block device; it may hold data that no signature tells of
    FORMATTING = "formatting"  # begun; the device may hold anything mkfs writes, and no data
    FORMATTED = "formatted"  # finished; the device may hold data


@dataclass(frozen=True)
class Mark:
    """What image metadata says about the filesystem.

    `fs_type` under `raw` is the one that the volume was made for. `generation` is that of the
    attachment whose node wrote the mark: the marks of two nodes differ by it, so a slow node does
    not take another one's mark for its own. `unknown` are the fields that this driver does not
    know; it writes them back.
    """

    phase: Phase
    fs_type: str
    generation: int | None = field(default=None, compare=False)
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def encode(self) -> str:
        """Write the mark as the metadata's value."""
        facts = {**self.unknown, "state": self.phase.value, "type": self.fs_type}
        return json.dumps(facts | ({"generation": self.generation} if self.generation else {}))


@dataclass(frozen=True)
class Marked:
    """An image, by its id and its name for messages, with the text of its mark.

    One made by hand, not by this driver, is never formatted: it may hold anything. `generation` is
    that of the attachment by which the image is used now.
    """

    images: Images
    image_id: str
    name: str
    text: str | None
    by_hand: bool
    generation: int

    @property
    def mark(self) -> Mark | None:
        """The mark that the text stands for; Failed if it is damaged."""
        return read_mark(self.text, self.name)

    def next_mark(self, phase: Phase, fs_type: str) -> Mark:
        """Return the mark that follows this one, written by this attachment."""
        before = self.mark or Mark(phase, fs_type)
        return dataclasses.replace(before, phase=phase, fs_type=fs_type, generation=self.generation)

    def set(self, old: str | None, new: Mark) -> None:
        """Change the mark; Busy if it is not the old one any more.

        It is swapped even if it stays as it is: only the swap shows that no other node changed it.
        """
        pairs = {KEY: new.encode()}
        if not self.images.set_metadata(self.image_id, pairs, key=KEY, old=old):
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
        phase, fs_type = Phase(facts.pop("state")), str(facts.pop("type"))
        generation = facts.pop("generation", None)
        return Mark(phase, fs_type, generation and int(generation), facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    if by_hand and action is not Action.MOUNT:
        raise errors.Refused(
            f"image {image} was not made by this driver, so it is never formatted, but its "
            f"metadata {KEY} says that making {fs_type} on it was begun; look at the image, then "
            f"remove that metadata: `rbd image-meta remove {image} {KEY}`"
        )
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
    if mark.phase is Phase.RAW:
        raise errors.Refused(
            f"image {image} was used as a raw block device, and may hold data that no signature "
            f"tells of (it reads as {there or 'blank'}), so it is neither formatted nor mounted; "
            f"use it as a block device. If it holds a filesystem: `rbd image-meta set {image} "
            f"{KEY} '{Mark(Phase.FORMATTED, fs_type).encode()}'`"
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


def needs_raw_mark(mark: Mark | None, image: str) -> bool:
    """Tell whether raw use has to be marked, so that the image is never formatted after it.

    Raises:
        Refused: making a filesystem was begun; it would be made again, over what raw use wrote.
    """
    if mark is None or mark.phase is Phase.RAW:
        return True
    if mark.phase is Phase.FORMATTING:
        raise errors.Refused(
            f"image {image}: making {mark.fs_type} on it was interrupted, so it cannot be used as "
            "a raw block device; stage it once with that filesystem, which finishes it, or remove "
            f"the mark if the image shall be used raw: `rbd image-meta remove {image} {KEY}`"
        )
    return False


def prepare_raw(image: Marked, made_for: str) -> None:
    """Mark the image, made for that filesystem, before it is used as a writable block device.

    Raises:
        Refused: see `needs_raw_mark`.
        Busy: another node changed the mark.
    """
    if needs_raw_mark(image.mark, image.name):
        image.set(image.text, image.next_mark(Phase.RAW, made_for))
        steps.done("stage.raw", image=image.name)


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
    name, mark = image.name, image.mark
    match decide(mark, found, fs_type, readonly=readonly, image=name, by_hand=image.by_hand):
        case Action.MAKE | Action.MAKE_AGAIN:
            if mark is None:
                _require_empty(image)
            begun = image.next_mark(Phase.FORMATTING, fs_type)
            image.set(image.text, begun)
            steps.done("stage.formatting", image=name, fs_type=fs_type)
            _make(device, fs_type, mkfs_options, found)
            steps.done("stage.mkfs", image=name, fs_type=fs_type)
            image.set(begun.encode(), image.next_mark(Phase.FORMATTED, fs_type))
            steps.done("stage.formatted", image=name, fs_type=fs_type)
        case Action.MOUNT if not readonly:
            filesystems.check(device, fs_type, seconds=_CHECK_SECONDS)
        case Action.MOUNT:
            pass


def _require_empty(image: Marked) -> None:
    """Refuse an image that holds data outside of what was read, by its objects in Ceph."""
    if image.images.holds_data(image.image_id):
        raise errors.Refused(
            f"image {image.name} was never formatted by this driver, and reads as blank at its "
            "start and end, but holds data between them (`rbd diff` lists where), so it is not "
            "formatted. If it holds nothing of worth, delete the volume and make another one"
        )


def _make(
    device: Path, fs_type: str, mkfs_options: str, found: signature.Blank | signature.Signature
) -> None:
    if found != signature.Blank():
        # what an interrupted mkfs left is zeroed, so mkfs itself is never told to force
        filesystems.erase_signature(device, fs_type, seconds=READ_SECONDS)
        found = signature.content(device, seconds=READ_SECONDS)
    filesystems.make(device, fs_type, shlex.split(mkfs_options), found, seconds=_MAKE_SECONDS)
