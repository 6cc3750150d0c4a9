"""What an image that is open says about its clients and its data."""

import errno

import rbd

from rbdcsi.ceph import ceph_errors

_AUTOMATIC = "auto "  # cookies of locks that clients take by themselves (librbd, krbd)


class OpenImage:
    """An image that is open for reading."""

    def __init__(self, image_id: str, image: rbd.Image) -> None:
        self._image_id = image_id
        self._image = image

    def watchers(self) -> frozenset[str]:
        """Return the clients (`ip:port/nonce`) that have the image open for writing or mapped."""
        with ceph_errors.translated("listing the watchers of image", self._image_id):
            return frozenset(watcher["addr"] for watcher in self._image.watchers_list())

    def holds_data(self) -> bool:
        """Return whether anything was written into the image.

        librbd reads the object map for that. Without one it looks at every object, which takes
        time by the size of the image.
        """
        extents: list[int] = []

        def stop(offset: int, _length: int, _exists: bool) -> int:
            extents.append(offset)
            return -errno.ECANCELED

        with ceph_errors.translated("looking for data in image", self._image_id):
            try:
                # whole_object: librbd reads the object map, if the image has one.
                self._image.diff_iterate(0, self._image.size(), None, stop, whole_object=True)
            except rbd.Error:
                if not extents:
                    raise
        return bool(extents)

    def lock_owners(self) -> frozenset[str]:
        """Return the client that holds the image's exclusive lock; it may have died.

        librbd's `lock_get_owners` does not work on an image that is open for reading.
        """
        with ceph_errors.translated("reading the lock of image", self._image_id):
            locks = self._image.list_lockers()
        lockers = locks["lockers"] if locks else []
        return frozenset(address for _, cookie, address in lockers if cookie.startswith(_AUTOMATIC))
