"""The mark in an image's metadata: how the image was used so far."""

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rbdcsi.model import stored

KEY = "rbdcsi.filesystem"


class Phase(enum.Enum):
    """How the image was used so far."""

    RAW = "raw"  # as a block device; it may hold data without a signature
    FORMATTING = "formatting"  # mkfs began; the device may hold anything mkfs writes, and no data
    FORMATTED = "formatted"  # mkfs finished; the device may hold data


@dataclass(frozen=True)
class Mark:
    """What image metadata says about the filesystem.

    `fs_type` under `raw` is the one that the volume was made for. `generation` is that of the
    attachment whose node wrote the mark: the marks of two nodes differ by it, so a slow node does
    not take another one's mark for its own. `copied` means that the filesystem came from another
    volume, and no node has mounted it for writing since: its journal may not be replayed, and it
    has the UUID of its source.
    """

    phase: Phase = stored.key("state")
    fs_type: str = stored.key("type")
    generation: int | None = field(default=None, compare=False, metadata={"later": True})
    copied: bool = stored.later(False)
    unknown: Mapping[str, Any] = stored.unknown_fields()


MARK = stored.Kind(
    Mark,
    name=f"metadata {KEY}",
    remedy="so it is not known whether there is data, and nothing is formatted; look at the "
    'image, then set it to {"version":1,"state":"formatted","type":"ext4"} if it holds ext4',
    unversioned=True,
)


def read_mark(text: str | None, image: str) -> Mark | None:
    """Return the mark in that text, None if the image was never used.

    Args:
        text: the value of the metadata `KEY`; None if there is none.
        image: the image's name, for the message.

    Raises:
        Failed: the mark is damaged.
    """
    return None if text is None else MARK.decode(text, f"image {image}")


def of_unrecorded(current: Mark | None, fs_type: str | None, *, rolled_back: bool) -> Mark | None:
    """Return the mark of a snapshot that another program took, so that its own is not known.

    A mark only ever moves on, to one that rules out more, so the present mark is safe; unless the
    image was rolled back, which may have given it an earlier one.

    Args:
        current: the mark that the image has now.
        fs_type: the filesystem of the volume; None for raw use, and for an unmanaged image, which
            is never formatted.
        rolled_back: whether the image was ever rolled back.
    """
    may_be_formatted = current is None or current.phase is Phase.FORMATTING
    if rolled_back and fs_type and may_be_formatted:
        return Mark(Phase.FORMATTED, current.fs_type if current else fs_type)
    return current


def rolled_back(mark: Mark | None) -> Mark | None:
    """Return the mark of an image that was rolled back to a snapshot with this mark.

    The snapshot may have been taken while the filesystem was mounted, so its journal may not be
    replayed, as that of a copy.
    """
    if mark is None:
        return None
    return dataclasses.replace(
        mark, copied=mark.copied or mark.phase is Phase.FORMATTED, generation=None
    )
