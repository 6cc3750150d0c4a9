"""A volume as Ceph knows it, opened on a node to be staged."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.host.mappers import interface
from rbdcsi.model import filesystems, ids, node_options
from rbdcsi.staging import format, format_mark
from rbdcsi.volumes import spec


@dataclass(frozen=True)
class Volume:
    """The image, its record, and what it was made as: None if it was made by hand, not by us."""

    images: Images
    records: store.Records
    image: interface.Image
    access: interface.Access
    made: spec.VolumeSpec | None
    mark: str | None

    @property
    def options(self) -> node_options.NodeOptions:
        """What the StorageClass chose for nodes."""
        return self.made.node if self.made else node_options.NodeOptions()

    @property
    def raw_only(self) -> bool:
        """Whether it was made for raw block use only."""
        return self.made is not None and self.made.fs_type is None

    @property
    def may_be_formatted(self) -> bool:
        """Whether a mount may make a filesystem on it: it was made by this driver, for one."""
        return self.made is not None and not self.raw_only

    def marked(self, generation: int) -> format.Marked:
        """Return the image with its mark, used by the attachment of that generation."""
        image_id, name = self.image.image_id, str(self.image)
        return format.Marked(self.images, image_id, name, self.mark, self.made is None, generation)

    def fs_type(self, asked: str) -> str:
        """Return the filesystem for a request that asks for this one, or for none.

        Raises:
            Refused: the image's metadata, which anyone with the pool can write, names another kind.
        """
        made_for = self.made.fs_type if self.made else None
        fs_type = asked or made_for or filesystems.DEFAULT
        if fs_type not in filesystems.TABLE:
            raise errors.Refused(
                f"image {self.image}: its metadata {spec.KEY} names the filesystem {fs_type!r}; it "
                f"must be one of {', '.join(filesystems.TABLE)}"
            )
        return fs_type

    def watching(
        self, mapper: interface.Mapper
    ) -> contextlib.AbstractContextManager[Callable[[], frozenset[str]]]:
        """Give what lists the image's watchers, not needed where the mapper tells its client."""
        if mapper.tells_client:
            return contextlib.nullcontext(frozenset)
        return self.images.watched(self.image.image_name)


def opened(
    connection: connections.Connection, place: locations.Location, handle: ids.VolumeHandle
) -> Volume:
    """Return the volume.

    Raises:
        NotFound: its image is gone.
    """
    images = Images(place.ioctx)
    name, header = images.name_of(handle.image_id), images.header(handle.image_id)
    if name is None or header is None:
        raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
    image = interface.Image(
        connection.fsid,
        handle.location.pool_id,
        place.pool,
        handle.location.namespace,
        handle.image_id,
        name,
        header.features,
    )
    return Volume(
        images,
        store.Records(place.ioctx),
        image,
        interface.Access(connection.monitors, connection.user, connection.key),
        spec.read(header.metadata, name),
        header.metadata.get(format_mark.KEY),
    )
