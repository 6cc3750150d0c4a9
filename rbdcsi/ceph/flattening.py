"""Keeps the flattening of an image apart from its snapshots and its removal, in all processes.

librbd 16 lets a snapshot be taken while it flattens the image. When it then detaches the image from
its parent, it detaches the new snapshot, too, which may lack what was not copied for it. So:

- the process that flattens writes a claim first, then looks whether the image has snapshots. It
  flattens only an image without any: then no clone reads through the image, either, whose client
  would keep an old view of it.
- a snapshot of an image with a parent counts only if no claim was there before it was taken, and
  none is there afterwards, and the parent is the same. Whatever the order of the two, one sees the
  other.
- an image that is being deleted is not flattened any more, and its data is removed only when it has
  no claim, see `require_none`.
- a claim ends only after the object map is valid again, so that snapshots have a valid one, too.
- the claim of a process that died is taken over, and the image flattened to its end: a client of a
  node, which has the lock, may still copy for that process.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rados

from rbdcsi import errors
from rbdcsi.ceph import omap
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.lineage import Parent
from rbdcsi.runtime.futures import Future

OBJECT = "rbdcsi.flattening"
_CLAIM = "claim/"  # of an image that is being flattened; the value is the client that does it
_AT_LAST = " is at the last object"  # after the client
_WANTED = " is to break off"  # after both, if a snapshot was asked for, or the image is deleted
_FOR_SNAPSHOT = "a snapshot taken at the same time could lose data"


@dataclass(frozen=True)
class Claim:
    """The client that flattens an image.

    Attributes:
        client: its address.
        is_at_last: it was about to copy the last object. Without that, Ceph has not detached the
            image for it.
    """

    client: str
    is_at_last: bool


class Claims:
    """The images of one location that are being flattened."""

    def __init__(self, ioctx: rados.Ioctx) -> None:
        self._omap = omap.Omap(ioctx, OBJECT)

    def begin(self, image_id: str, client: str) -> bool:
        """Claim an image for a client; return False if it is claimed already."""
        return self._omap.swap(_CLAIM + image_id, None, client)

    def is_undisturbed(self, image_id: str, client: str) -> bool:
        """Return whether the client's claim stands and it is not to break off."""
        return self._omap.get(_CLAIM + image_id) in {client, client + _AT_LAST}

    def note_last(self, image_id: str, client: str) -> bool:
        """Note that the client is about to copy the last object; False: it is to break off."""
        key, noted = _CLAIM + image_id, client + _AT_LAST
        return self._omap.swap(key, client, noted) or self._omap.get(key) == noted

    def end(self, image_id: str, client: str) -> None:
        """Remove the client's claim of an image; the claim of another client stays."""
        self._replace(image_id, client, None)

    def take_over(self, image_id: str, former: str, client: str) -> bool:
        """Claim an image in the place of a former client; return False if that has no claim."""
        return self._replace(image_id, former, client)

    def _replace(self, image_id: str, former: str, claim: str | None) -> bool:
        texts = [former + mark for mark in ("", _AT_LAST, _WANTED, _AT_LAST + _WANTED)]
        return any(self._omap.swap(_CLAIM + image_id, text, claim) for text in texts)

    def all(self) -> dict[str, Claim]:
        """Return the claim of each claimed image."""
        return {key.removeprefix(_CLAIM): _claim(text) for key, text in self._omap.items(_CLAIM)}

    def begin_get(self, image_id: str) -> Future[str | None]:
        """Begin to read what is stored of an image's claim, None if it has none."""
        return self._omap.begin_get(_CLAIM + image_id)

    def break_off(self, image_id: str, claim: str) -> None:
        """Tell the process that has that claim, as `begin_get` returned it, to stop."""
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
            raise _busy(image_id, _FOR_SNAPSHOT)


def require_none(ioctx: rados.Ioctx, image_id: str) -> None:
    """Break off the flattening of an image whose data is to be removed.

    librbd does not open the parent of an image that it removes, and holds the image's lock. The
    client that flattens the image asks the holder of the lock to do it. librbd 16 then copies
    nothing, and detaches the image: no client can open the image any more.

    Args:
        ioctx: the location of the image.
        image_id: the image. Its record says that it is being deleted, so no process begins to
            flatten it.

    Raises:
        Busy: it is being flattened.
    """
    reading = Claims(ioctx).begin_get(image_id)
    _require_none(ioctx, image_id, reading, "the image is to be removed")


def _require_none(
    ioctx: rados.Ioctx, image_id: str, reading: Future[str | None], reason: str
) -> None:
    claim = reading.result()
    if claim is not None:
        Claims(ioctx).break_off(image_id, claim)
        raise _busy(image_id, reason)


def _kept_parents(images: Sequence[tuple[rados.Ioctx, str]]) -> list[Parent | None]:
    """Return the parent of each image, none of which is being flattened; None if it has none."""
    reading_claims = [Claims(ioctx).begin_get(image_id) for ioctx, image_id in images]
    for (ioctx, image_id), reading in zip(images, reading_claims, strict=True):
        _require_none(ioctx, image_id, reading, _FOR_SNAPSHOT)
    # Read after the claims: a flattening that had ended by then has detached the image before.
    return _parents(images)


def _parents(images: Sequence[tuple[rados.Ioctx, str]]) -> list[Parent | None]:
    """Return the parent of each image, None if it has none."""
    reading_headers = [Images(ioctx).begin_header(image_id) for ioctx, image_id in images]
    headers = [reading.result() for reading in reading_headers]
    return [header.parent if header else None for header in headers]


def _claim(text: str) -> Claim:
    client = text.removesuffix(_WANTED)
    return Claim(client.removesuffix(_AT_LAST), client.endswith(_AT_LAST))


def _busy(image_id: str, reason: str) -> errors.Busy:
    return errors.Busy(
        f"image {image_id} is being flattened, which is broken off now, because {reason}; try again"
    )
