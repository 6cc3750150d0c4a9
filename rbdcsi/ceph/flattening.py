"""Keeps snapshots and flattening of one image apart, also those of two processes.

librbd 16 lets a snapshot be taken while it flattens the image. When it then detaches the image from
its parent, it detaches the new snapshot, too, which may lack what was not copied for it. So:

- the process that flattens writes a claim first, then looks whether the image has snapshots. It
  flattens only an image without any: then no clone reads through the image, either, whose client
  would keep an old view of it.
- a snapshot counts only if no claim was there before it was taken, and none is there afterwards,
  and the image has the same parent. Whatever the order of the two, one sees the other.
"""

import contextlib
from collections.abc import Iterator, Sequence

import rados

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import Parent

OBJECT = "rbdcsi.flattening"
_CLAIM = "claim/"  # of an image that is being flattened; the value is the client that does it
_WANTED = " is to break off"  # after the client, if a snapshot was asked for


class Claims:
    """The images of one location that are being flattened."""

    def __init__(self, ioctx: rados.Ioctx) -> None:
        self._omap = omap.Omap(ioctx, OBJECT)

    def begin(self, image_id: str, client: str) -> bool:
        """Claim an image for a client; return False if it is claimed already."""
        return self._omap.swap(_CLAIM + image_id, None, client)

    def is_undisturbed(self, image_id: str, client: str) -> bool:
        """Return whether the client's claim stands and no snapshot was asked for."""
        return self._omap.get(_CLAIM + image_id) == client

    def end(self, image_id: str, client: str) -> None:
        """Remove the client's claim of an image; the claim of another client stays."""
        key = _CLAIM + image_id
        if not self._omap.swap(key, client, None):
            self._omap.swap(key, client + _WANTED, None)

    def all(self) -> dict[str, str]:
        """Return the client of each claimed image."""
        return {
            key.removeprefix(_CLAIM): client.removesuffix(_WANTED)
            for key, client in self._omap.items(_CLAIM)
        }

    def require_none(self, image_id: str) -> None:
        """Refuse a snapshot of an image that is being flattened, and have that broken off.

        Raises:
            Busy: it is.
        """
        key = _CLAIM + image_id
        client = self._omap.get(key)
        if client is None:
            return
        if not client.endswith(_WANTED):
            self._omap.swap(key, client, client + _WANTED)
        raise _busy(image_id)


@contextlib.contextmanager
def excluded(images: Sequence[tuple[rados.Ioctx, str]]) -> Iterator[None]:
    """Refuse the snapshots that the body takes, if an image was flattened at that time.

    Args:
        images: the location and id of each image.

    Raises:
        Busy: one was. The body's snapshots may have been taken; they must not be used.
    """
    before = [_parent(*image) for image in images]
    yield
    for image, parent in zip(images, before, strict=True):
        if _parent(*image) != parent:
            raise _busy(image[1])


def _parent(ioctx: rados.Ioctx, image_id: str) -> Parent | None:
    """Return the parent of an image that is not being flattened; None if it has none."""
    Claims(ioctx).require_none(image_id)
    header = Images(ioctx).header(image_id)
    return header.parent if header else None


def _busy(image_id: str) -> errors.Busy:
    return errors.Busy(
        f"image {image_id} is being flattened, which is broken off now, because a snapshot taken "
        "meanwhile could lose data; try again"
    )
