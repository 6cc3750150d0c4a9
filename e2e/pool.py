"""A pool as Ceph's own tools show it, beside the driver: images, trash, watchers, attachments."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping

import rados
import rbd

from e2e.clusters import commands
from e2e.volume import Volume
from rbdcsi import errors
from rbdcsi.attachments import records, store
from rbdcsi.model import ids
from rbdcsi.nodes import registry

_PIECE = 4 << 20  # bytes read at once


def image_id(made: Volume) -> str:
    """Return the id of the volume's image."""
    return ids.parse(made.id).image_id


def wait_until_registered(ioctx: rados.Ioctx, node_id: str) -> None:
    """Return when the node's record is in Ceph."""

    def registered() -> bool:
        try:
            registry.Nodes(ioctx).get(node_id)
        except errors.NotFound:
            return False
        return True

    commands.wait_until(registered, f"{node_id} is registered")


class PoolView:
    """Looks into a pool and RADOS namespace; a class that stands on it has the `ioctx`."""

    ioctx: rados.Ioctx

    def image_id(self, made: Volume) -> str:
        """Return the id of the volume's image."""
        return image_id(made)

    def images(self) -> list[str]:
        """Return the names of the images outside the trash."""
        return sorted(rbd.RBD().list(self.ioctx))

    def trashed(self) -> list[str]:
        """Return the ids of the images in the trash."""
        return sorted(entry["id"] for entry in rbd.RBD().trash_list(self.ioctx))

    @contextlib.contextmanager
    def image(self, made: Volume, *, readonly: bool = False) -> Iterator[rbd.Image]:
        """Open the volume's image behind the driver's back."""
        with rbd.Image(self.ioctx, image_id=image_id(made), read_only=readonly) as image:
            yield image

    def metadata(self, made: Volume) -> Mapping[str, str]:
        """Return the image's metadata, as `rbd image-meta list` shows it."""
        with self.image(made, readonly=True) as image:
            return dict(image.metadata_list())

    def watchers(self, made: Volume) -> set[str]:
        """Return the clients that Ceph lists as having the image open for writing."""
        with self.image(made, readonly=True) as image:
            return {watcher["addr"] for watcher in image.watchers_list()}

    def content(self, made: Volume, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of the image as Ceph has them, all of them without a size."""
        with self.image(made, readonly=True) as image:
            return bytes(image.read(offset, image.size() if size is None else size))

    def checksum(self, made: Volume) -> str:
        """Return a checksum of all the image's bytes, as Ceph has them."""
        with self.image(made, readonly=True) as image:
            digest = hashlib.blake2b()
            for offset in range(0, image.size(), _PIECE):
                digest.update(image.read(offset, min(_PIECE, image.size() - offset)))
            return digest.hexdigest()

    def attachments(self, made: Volume) -> Mapping[str, records.Attachment]:
        """Return the volume's attachments by node."""
        return store.Records(self.ioctx).get(image_id(made)).attachments
