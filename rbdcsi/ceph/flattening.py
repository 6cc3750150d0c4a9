"""Keeps snapshots and flattening of one image apart, also those of two processes.

librbd 16 lets a snapshot be taken while it flattens the image. When it then detaches the image from
its parent, it detaches the new snapshot, too, which may lack what was not copied for it. So:

- the process that flattens writes a claim first, then looks whether the image has snapshots. It
  flattens only an image without any: then no clone reads through the image, either, whose client
  would keep an old view of it.
- a snapshot of an image with a parent counts only if no claim was there before it was taken, and
  none is there afterwards, and the parent is the same. Whatever the order of the two, one sees the
  other.
"""

import contextlib
from collections.abc import Iterator, Sequence

import rados

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import Parent
from rbdcsi.runtime.futures import Future

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

    def begin_get(self, image_id: str) -> Future[str | None]:
        """Begin to read what is stored of an image's claim, None if it has none."""
        return self._omap.begin_get(_CLAIM + image_id)

    def break_off(self, image_id: str, claim: str) -> None:
        """Tell the process that has that claim to stop, because a snapshot is asked for."""
        if not claim.endswith(_WANTED):
            self._omap.swap(_CLAIM + image_id, claim, claim + _WANTED)


@contextlib.contextmanager
def excluded(images: Sequence[tuple[rados.Ioctx, str]]) -> Iterator[None]:
    """Refuse the snapshots that the body takes, if an image was flattened at that time.

    Args:
        images: the location and id of each image.

    Raises:
        Busy: one was, which is broken off. The body's snapshots may have been taken; they must not
            be used.
    """
    # An image without a parent never gets one, and nothing is detached from it any more.
    clones = [each for each, parent in zip(images, _parents(images), strict=True) if parent]
    before = _kept_parents(clones)
    yield
    for (_, image_id), old, new in zip(clones, before, _kept_parents(clones), strict=True):
        if old != new:
            raise _busy(image_id)


def _kept_parents(images: Sequence[tuple[rados.Ioctx, str]]) -> list[Parent | None]:
    """Return the parent of each image, none of which is being flattened; None if it has none."""
    reading_claims = [Claims(ioctx).begin_get(image_id) for ioctx, image_id in images]
    for (ioctx, image_id), reading in zip(images, reading_claims, strict=True):
        claim = reading.result()
        if claim is not None:
            Claims(ioctx).break_off(image_id, claim)
            raise _busy(image_id)
    # Read after the claims: a flattening that had ended by then has detached the image before.
    return _parents(images)


def _parents(images: Sequence[tuple[rados.Ioctx, str]]) -> list[Parent | None]:
    """Return the parent of each image, None if it has none."""
    reading_headers = [Images(ioctx).begin_header(image_id) for ioctx, image_id in images]
    headers = [reading.result() for reading in reading_headers]
    return [header.parent if header else None for header in headers]


def _busy(image_id: str) -> errors.Busy:
    return errors.Busy(
        f"image {image_id} is being flattened, which is broken off now, because a snapshot taken "
        "at the same time could lose data; try again"
    )
