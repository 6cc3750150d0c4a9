"""Which bytes of an image have data in a snapshot, or changed between two of its snapshots.

librbd has two ways. The object maps (fast-diff) say within milliseconds which objects changed, as
a whole. The OSDs say which bytes of an object changed, one request for each object. So the object
maps choose the parts of the image about which the OSDs are asked, if the image has such maps.

librbd reports a whole range from threads that all images of a connection share, and those must not
wait for a slow reader. So it is asked about one range after another, and nothing runs while the
reader does something else. Each question takes half a millisecond beside its answer, so the ranges
are large, until an answer has so many extents that it would take too much memory.
"""

import contextlib
import errno
from collections.abc import Iterator

import rados
import rbd

from rbdcsi.ceph import ceph_errors
from rbdcsi.model import extents, image_layout
from rbdcsi.model.extents import Extent

# The OSDs are asked about so many bytes at once. librbd sends up to 10 requests at a time.
_MOST_BYTES = 1 << 30
# If an answer has more extents, they are asked about so many bytes. At worst every second sector of
# these changed, which makes 65536 extents.
_MOST_EXTENTS = 8192
_PIECE_BYTES = 64 << 20
_OBJECTS = 32768  # of the object maps at once; librbd loads all of each map every time


class SnapshotDiff:
    """An image that is open at a snapshot."""

    def __init__(self, image: rbd.Image, on: str) -> None:
        """Wrap an open image; see `opened`.

        Args:
            image: it is set to the snapshot.
            on: image and snapshot, for messages.
        """
        self._image = image
        self._on = on
        self._mapped = bool(image.features() & image_layout.BITS["fast-diff"]) and not image.flags()
        self._window = image.stat()["obj_size"] * _OBJECTS
        self._at_once = _MOST_BYTES

    def changed(self, start: int, end: int, since: int | None) -> Iterator[list[Extent]]:
        """Yield the changed extents between two offsets, list by list, in ascending order.

        Discarded bytes count as changed. Some extents may not have changed.

        Args:
            start: the first byte.
            end: the byte after the last.
            since: RBD's id of an older snapshot. None: yield extents that have data, in the image
                or in those that it is a clone of.

        Raises:
            NotFound: the older snapshot does not exist.
        """
        with ceph_errors.translated("comparing snapshots of", self._on):
            base = None if since is None else self._image.snap_get_name(since)
        for offset, length in extents.windows(start, end, self._window):
            for part in self._touched(offset, length, base):
                yield from self._exact(*part, base)

    def _touched(self, offset: int, length: int, base: str | None) -> list[Extent]:
        """Return the parts of the range that the OSDs need to be asked about."""
        touched = extents.TouchedPieces(_PIECE_BYTES)
        if self._mapped:
            with ceph_errors.translated("comparing object maps of", self._on):
                self._image.diff_iterate(
                    offset,
                    length,
                    base,
                    lambda start, size, _exists: touched.add(start, size),
                    whole_object=True,
                )
        else:
            touched.add(offset, length)
        return extents.joined(touched.parts(), _PIECE_BYTES)

    def _exact(self, offset: int, length: int, base: str | None) -> Iterator[list[Extent]]:
        """Yield the extents that the OSDs know; see `changed`."""
        for part in extents.windows(offset, offset + length, self._at_once):
            changed = self._asked(*part, base)
            if changed is None:
                self._at_once = _PIECE_BYTES  # the rest of the image is much like this part
                yield from self._exact(*part, base)
            else:
                yield changed

    def _asked(self, offset: int, length: int, base: str | None) -> list[Extent] | None:
        """Ask the OSDs; return None if it is about more than a piece, and there are too many."""
        changed: list[Extent] = []

        def add(start: int, size: int, exists: bool) -> int:
            if length > _PIECE_BYTES and len(changed) == _MOST_EXTENTS:
                return -errno.ECANCELED  # librbd ends, after the requests that are under way
            if exists or base is not None:  # a hole in a single snapshot is no data
                changed.append((start, size))
            return 0

        with ceph_errors.translated("comparing objects of", self._on):
            try:
                self._image.diff_iterate(offset, length, base, add)
            except rbd.OperationCanceled:
                return None
        return extents.merged(changed)


@contextlib.contextmanager
def opened(ioctx: rados.Ioctx, image_id: str, snap_id: int) -> Iterator[SnapshotDiff]:
    """Open an image at a snapshot for the body.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        snap_id: RBD's id of the snapshot.

    Raises:
        NotFound: the image or the snapshot does not exist.
    """
    on = f"image {image_id}, snapshot {snap_id}"
    with ceph_errors.translated("opening image", image_id):
        image = rbd.Image(ioctx, image_id=image_id, read_only=True)
    try:
        with ceph_errors.translated("opening", on):
            image.set_snap_by_id(snap_id)
            diff = SnapshotDiff(image, on)
        yield diff
    finally:
        with contextlib.suppress(rbd.Error):  # nothing was written through it
            image.close()
