"""RBD images of one location: create, inspect, list, remove.

librbd creates and removes images. Their headers and metadata are read and written directly, because
opening an image takes 20 times as long (see objects.py).
"""

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, objects, omap, trash
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.model import image_layout
from rbdcsi.model.image_layout import Layout
from rbdcsi.runtime.futures import Future

_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ
_NAME = "name_"  # keys of rbd_directory; the value is the image's id
_EMPTIED_BYTES = 16 << 30  # at once, between two looks whether to stop
_ID_BYTES = 4096  # an id object holds one short string


class Images:
    """The images of one pool and RADOS namespace."""

    def __init__(self, ioctx: rados.Ioctx) -> None:
        self._ioctx = ioctx
        self._rbd = rbd.RBD()

    def create(self, name: str, size: int, layout: Layout) -> None:
        """Create an image of `size` bytes.

        Every option has a value, because Ceph's configuration has defaults for those without one.
        With its own pool for data, and objects that are one stripe each, librbd makes the same
        image as without these options.

        Raises:
            AlreadyExists: an image of that name exists.
            Exhausted: pool or cluster is full.
            InvalidRequest: librbd cannot make such an image.
        """
        with ceph_errors.translated("creating image", name):
            self._rbd.create(
                self._ioctx,
                name,
                size,
                order=layout.object_bytes.bit_length() - 1,
                old_format=False,
                features=image_layout.mask(layout.features),
                stripe_unit=layout.stripe_unit or layout.object_bytes,
                stripe_count=layout.stripe_count or 1,
                data_pool=layout.data_pool or self._ioctx.get_pool_name(),
            )

    def id_of(self, name: str) -> str | None:
        """Return the id of the image of that name, None if there is none."""
        with ceph_errors.translated("reading the id of image", name):
            try:
                return objects.text(self._ioctx.read(objects.ID + name, _ID_BYTES))
            except rados.ObjectNotFound:
                return None

    def name_of(self, image_id: str) -> str | None:
        """Return the name of the image of that id, None if there is none outside the trash."""
        return self.begin_name_of(image_id).result()

    def begin_name_of(self, image_id: str) -> Future[str | None]:
        """Begin to read the image's name, None if there is no such image outside the trash."""
        reading = omap.begin_read(self._ioctx, objects.DIRECTORY, f"id_{image_id}")
        return reading.then(lambda value: None if value is None else objects.text(value))

    def exists(self, image_id: str) -> bool:
        """Return whether the image exists, in the trash or outside, by its header object."""
        with ceph_errors.translated("looking for image", image_id):
            try:
                self._ioctx.stat(objects.HEADER + image_id)
            except rados.ObjectNotFound:
                return False
        return True

    def header(self, image_id: str) -> objects.Header | None:
        """Return the image's header, None if there is no such image."""
        return self.begin_header(image_id).result()

    def begin_header(self, image_id: str) -> Future[objects.Header | None]:
        """Begin to read the image's header, None if there is no such image.

        It is one read, and one more for each thousand snapshots.
        """
        name = objects.HEADER + image_id
        reading = omap.begin_page(self._ioctx, name, "")
        return reading.then(lambda pairs: _header(self._ioctx, image_id, pairs))

    def set_metadata(
        self,
        image_id: str,
        pairs: Mapping[str, str],
        *,
        key: str,
        old: str | None,
        remove: Iterable[str] = (),
    ) -> bool:
        """Write image metadata in one operation if one key still has its expected value.

        Args:
            image_id: the image.
            pairs: the metadata to write; values are ASCII.
            key: the key that is compared.
            old: the value that it must have; None: it must be absent.
            remove: keys of metadata to remove.

        Returns:
            False, with nothing written, if the key has another value.

        Raises:
            NotFound: no such image.
        """
        with ceph_errors.translated("writing metadata of image", image_id):
            try:
                with rados.WriteOpCtx() as op:
                    op.omap_cmp(objects.metadata_key(key), old or "", _EQUAL)
                    argument = objects.metadata_set_argument(pairs)
                    op.execute("rbd", "metadata_set", argument)
                    keys = tuple(objects.metadata_key(each) for each in remove)
                    self._ioctx.remove_omap_keys(op, keys)
                    self._ioctx.operate_write_op(op, objects.HEADER + image_id)
            except rados.OSError as error:
                if ceph_errors.compared_unequal(error):
                    return False
                raise
        return True

    def watchers(self, image_id: str) -> frozenset[str]:
        """Return the clients (`ip:port/nonce`) that have the image open for writing or mapped.

        Raises:
            NotFound: no such image.
        """
        with self.opened(image_id) as image:
            return image.watchers()

    @contextlib.contextmanager
    def opened(self, image_id: str) -> Iterator[OpenImage]:
        """Open the image for the body, which may ask several questions about it.

        Opening takes 4 ms. It is read-only, so the driver itself is no watcher.
        """
        with ceph_errors.translated("opening image", image_id):
            image = rbd.Image(self._ioctx, image_id=image_id, read_only=True)
        try:
            yield OpenImage(image_id, image)
        finally:
            with contextlib.suppress(rbd.Error):  # nothing was written through it
                image.close()

    def break_lock(self, image_id: str, address: str) -> None:
        """Break the image's exclusive lock if that client holds it.

        The client must be on the blocklist: librbd does not put it there, see `Connection.open`.

        Args:
            image_id: the image.
            address: of the client, `ip:port/nonce`.

        Raises:
            NotFound: no such image.
        """
        doing = ceph_errors.translated("breaking the lock of image", image_id)
        with doing, rbd.Image(self._ioctx, image_id=image_id) as image:
            if not image.features() & image_layout.BITS["exclusive-lock"]:
                return
            owners = [owner["owner"] for owner in image.lock_get_owners()]
            if address in owners:
                image.lock_break(rbd.RBD_LOCK_MODE_EXCLUSIVE, address)

    def holds_data(self, image_id: str) -> bool:
        """Return whether anything was written into the image; see `OpenImage.holds_data`."""
        with self.opened(image_id) as image:
            return image.holds_data()

    def used_bytes(self, image_id: str) -> int:
        """Return the bytes of the image's objects that exist, without those of its parent.

        librbd reads the object map for that, see `holds_data`.

        Raises:
            NotFound: no such image.
        """
        lengths: list[int] = []

        def add(_offset: int, length: int, exists: bool) -> None:
            if exists:
                lengths.append(length)

        doing = ceph_errors.translated("adding up the data of image", image_id)
        with doing, rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image:
            image.diff_iterate(0, image.size(), None, add, include_parent=False, whole_object=True)
        return sum(lengths)

    def all(self) -> list[tuple[str, str]]:
        """Return id and name of every image outside the trash, sorted by name."""
        return [image for page in self.pages() for image in page]

    def pages(
        self,
        after: str = "",
        first: Future[omap.Pairs] | None = None,
        most: int = omap.PAGE,
    ) -> Iterator[list[tuple[str, str]]]:
        """Yield pages with id and name of the images outside the trash, sorted by name.

        librbd keeps the names as sorted keys, and `RBD.list2` always reads all of them.

        Args:
            after: only images with a name after this one; empty: all.
            first: the first page if `begin_page` was called for it.
            most: the most images of a page.
        """
        reading = first or self.begin_page(after, most)
        while pairs := reading.result():
            yield [(objects.text(value), key.removeprefix(_NAME)) for key, value in pairs]
            if len(pairs) < most:
                return
            reading = omap.begin_page(self._ioctx, objects.DIRECTORY, _NAME, pairs[-1][0], most)

    def begin_page(self, after: str = "", most: int = omap.PAGE) -> Future[omap.Pairs]:
        """Begin to read the first page of `pages`."""
        start = _NAME + after if after else ""
        return omap.begin_page(self._ioctx, objects.DIRECTORY, _NAME, start, most)

    def empty_trashed(self, image_id: str, stopping: Callable[[], bool]) -> None:
        """Remove the data of an image in the trash, and leave the image; takes time by its size.

        Args:
            image_id: the image.
            stopping: called now and then; if it returns True, the removal ends before its end.

        Raises:
            NotFound: no such image in the trash.
            Refused: a client has it open.
            Busy: it was stopped.
        """
        doing = ceph_errors.translated("removing the data of image", image_id)
        with doing, rbd.Image(self._ioctx, image_id=image_id) as image:
            if len(list(image.watchers_list())) > 1:  # one is this client
                raise errors.Refused(f"image {image_id} is open by a client, its data is kept")
            # A person may have restored it since its entry was read.
            trash.begin_removal(self._ioctx, image_id)
            size = image.size()
            while size and not stopping():
                size = max(0, size - _EMPTIED_BYTES)
                image.resize(size)
        if size:
            raise errors.Busy(f"removing the data of image {image_id} was stopped")

    def remove_trashed(self, image_id: str, stopping: Callable[[], bool]) -> None:
        """Remove an image in the trash with its data; takes time by the size of the image.

        Args:
            image_id: the image.
            stopping: called now and then; if it returns True, the removal ends before its end.

        Raises:
            NotFound: no such image in the trash.
            Refused: it still has snapshots, or is in use.
            Busy: it was stopped.
        """

        def progress(_done: int, _total: int) -> int:
            return -errno.ECANCELED if stopping() else 0

        with ceph_errors.translated("removing from the trash image", image_id):
            self._rbd.trash_remove(self._ioctx, image_id, on_progress=progress)


def _header(ioctx: rados.Ioctx, image_id: str, first_page: omap.Pairs) -> objects.Header | None:
    """Return the header whose first keys are these, None if there are none."""
    page = pairs = first_page
    while len(page) == omap.PAGE:
        page = omap.begin_page(ioctx, objects.HEADER + image_id, "", page[-1][0]).result()
        pairs = pairs + page
    try:
        return objects.decode(dict(pairs)) if pairs else None
    except ValueError as error:
        raise errors.Failed(f"image {image_id}: {error}") from error
