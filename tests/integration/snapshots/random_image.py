"""An image that a seed decides: written, discarded, resized and rolled back between snapshots.

It may be a clone.

librbd's reads of the snapshots are the truth that blocks are compared with.
"""

import contextlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import rados
import rbd

from rbdcsi import errors
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.rollback import ChangingImage
from rbdcsi.model import ids, image_layout
from rbdcsi.model.extents import Extent
from rbdcsi.operator import rollback_checks

OBJECT = 1 << 16
_FEATURES = {
    "maps": ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"),
    "layering": ("layering",),
}
SNAPSHOTS = 5


@dataclass(frozen=True)
class RandomImage:
    """An image: its id, and its snapshots' ids and content, the oldest first."""

    image_id: str
    snapshots: tuple[tuple[int, bytes], ...]
    history: str


@contextlib.contextmanager
def made(ioctx: rados.Ioctx, seed: int) -> Iterator[RandomImage]:
    """Make an image for the body; it goes with its snapshots, and with its parent.

    Args:
        ioctx: the pool; the connection sets rbd_skip_partial_discard to false, as krbd works, and
            clones in format 2.
        seed: decides all.
    """
    rng = random.Random(seed)
    features = rng.choice(sorted(_FEATURES))
    striping: dict[str, Any] = {}
    if rng.random() < 0.25:
        striping = {"stripe_unit": OBJECT // 4, "stripe_count": 3}
    mask = image_layout.mask(_FEATURES[features])
    size = rng.randrange(1, 40) * OBJECT // 2
    name, parent = f"random-{seed}", f"parent-{seed}"
    history = [f"seed {seed} {features} {striping}"]
    images = rbd.RBD()
    with contextlib.ExitStack() as undo:
        if rng.random() < 0.5:
            images.create(
                ioctx, parent, size, order=16, old_format=False, features=mask, **striping
            )
            undo.callback(_remove, ioctx, parent)
            with rbd.Image(ioctx, parent) as image:
                _change(image, rng, history)
                image.create_snap("base")
            images.clone(ioctx, parent, "base", ioctx, name, features=mask, order=16, **striping)
        else:
            images.create(ioctx, name, size, order=16, old_format=False, features=mask, **striping)
        undo.callback(_remove, ioctx, name)
        with rbd.Image(ioctx, name) as image:
            for number in range(SNAPSHOTS):
                _change(image, rng, history)
                if number > 1 and rng.random() < 0.3:
                    _roll_back(ioctx, image, rng, history)
                    _change(image, rng, history)
                image.create_snap(f"s{number}")
                history.append(f"snapshot {number}")
            if rng.random() < 0.3:  # one in between goes
                image.remove_snap(f"s{rng.randrange(SNAPSHOTS)}")
            image_id, snapshots = image.id(), [each["id"] for each in image.list_snaps()]
        contents = tuple((snap_id, _content(ioctx, name, snap_id)) for snap_id in sorted(snapshots))
        yield RandomImage(image_id, contents, "; ".join(history))


def applied(content: bytes, target: bytes, blocks: Iterable[Extent]) -> bytes:
    """Return the content with its blocks copied from the target, as a restore does."""
    restored = bytearray(content[: len(target)].ljust(len(target), b"\0"))
    for offset, length in blocks:
        restored[offset : offset + length] = target[offset : offset + length]
    return bytes(restored)


def _change(image: rbd.Image, rng: random.Random, history: list[str]) -> None:
    for _ in range(rng.randrange(8)):
        size, kind = image.size(), rng.random()
        length = rng.choice((512, 4096, OBJECT // 2, OBJECT, 3 * OBJECT))
        offset = rng.randrange(0, size, 512)
        if rng.random() < 0.3:
            offset -= offset % (OBJECT // 2)
        length = min(length, size - offset)
        if kind < 0.45:
            image.write(rng.randbytes(length), offset)
            history.append(f"write {offset} {length}")
        elif kind < 0.75:
            image.discard(offset, length)
            history.append(f"discard {offset} {length}")
        elif kind < 0.95:
            new = rng.randrange(1, 40) * OBJECT // 2
            image.resize(new)
            history.append(f"resize {new}")
        else:
            with contextlib.suppress(rbd.InvalidArgument):  # it has no parent
                image.flatten()
                history.append("flatten")


def _roll_back(
    ioctx: rados.Ioctx, image: rbd.Image, rng: random.Random, history: list[str]
) -> None:
    """Roll the image back as the driver does, if it would, and compare it with the snapshot."""
    image_id, size = image.id(), image.size()
    header = Images(ioctx).header(image_id)
    assert header
    snapshot = rng.choice(header.user_snapshots())
    location = ids.LocationId("c", 1, "")
    try:
        rollback_checks.require_possible(
            ids.VolumeHandle(location, image_id), header, VolumeRecord(), snapshot
        )
    except errors.Refused:
        return
    image.flush()
    content = _content(ioctx, image.get_name(), snapshot.snap_id)
    ChangingImage(ioctx, image_id, image).roll_back(snapshot.snap_id, size)
    history.append(f"rollback to {snapshot.name}")
    assert image.size() == max(size, snapshot.size)
    expected = content.ljust(image.size(), b"\0")
    assert image.read(0, image.size()) == expected, "; ".join(history)


def _content(ioctx: rados.Ioctx, name: str, snap_id: int) -> bytes:
    with rbd.Image(ioctx, name, read_only=True) as image:
        image.set_snap_by_id(snap_id)
        return image.read(0, image.size())


def _remove(ioctx: rados.Ioctx, name: str) -> None:
    with rbd.Image(ioctx, name) as image:
        for snapshot in list(image.list_snaps()):
            image.remove_snap_by_id(snapshot["id"])
    rbd.RBD().remove(ioctx, name)
