"""An image as librbd shows it, opened once, to be read: its users, its role, parts of its data."""

from collections.abc import Iterable
from dataclasses import dataclass

import rados
import rbd

from rbdcsi.ceph import ceph_errors


@dataclass(frozen=True)
class Inspection:
    """The facts of an image.

    Attributes:
        watchers: the clients (`ip:port/nonce`) that have it open for writing or mapped.
        secondary: whether it is the copy that rbd-mirror writes.
        parent: `POOL/IMAGE@SNAPSHOT` if it is a clone, otherwise None.
        parts: the bytes at the asked offsets.
    """

    watchers: frozenset[str]
    secondary: bool
    parent: str | None
    parts: tuple[tuple[int, bytes], ...]


def inspect(
    ioctx: rados.Ioctx, image_id: str, name: str, parts: Iterable[tuple[int, int]]
) -> Inspection:
    """Return the facts of an image.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: its name, for messages.
        parts: offset and length, in bytes, of what is read.

    Raises:
        NotFound: no such image.
    """
    doing = ceph_errors.translated("looking at image", name)
    with doing, rbd.Image(ioctx, image_id=image_id, read_only=True) as image:
        return Inspection(
            frozenset(watcher["addr"] for watcher in image.watchers_list()),
            _is_secondary(image),
            _parent(image),
            tuple((offset, image.read(offset, length)) for offset, length in parts),
        )


def _is_secondary(image: rbd.Image) -> bool:
    mirroring = image.mirror_image_get_info()
    return mirroring["state"] != rbd.RBD_MIRROR_IMAGE_DISABLED and not mirroring["primary"]


def _parent(image: rbd.Image) -> str | None:
    try:
        pool, name, snapshot = image.parent_info()
    except rbd.ImageNotFound:
        return None
    return f"{pool}/{name}@{snapshot}"
