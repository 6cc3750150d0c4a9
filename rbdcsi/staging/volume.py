"""A volume as Ceph knows it, opened on a node to be staged."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from rbdcsi import capabilities, errors, handles, parameters
from rbdcsi.attachments import store
from rbdcsi.ceph import connections
from rbdcsi.ceph.images import Images
from rbdcsi.host import mappers
from rbdcsi.staging import filesystem
from rbdcsi.volumes import locations, spec


@dataclass(frozen=True)
class Volume:
    """The image, its record, and what it was made as: None if it was made by hand, not by us."""

    images: Images
    records: store.Records
    image: mappers.Image
    access: mappers.Access
    made: spec.VolumeSpec | None
    mark: str | None

    @property
    def options(self) -> parameters.NodeOptions:
        """What the StorageClass chose for nodes."""
        return self.made.node if self.made else parameters.NodeOptions()

    @property
    def raw_only(self) -> bool:
        """Whether it was made for raw block use only."""
        return self.made is not None and self.made.fs_type is None

    @property
    def may_be_formatted(self) -> bool:
        """Whether a mount may make a filesystem on it: it was made by this driver, for one."""
        return self.made is not None and not self.raw_only

    def marked(self, generation: int) -> filesystem.Marked:
        """Return the image with its mark, used by the attachment of that generation."""
        image_id, name = self.image.image_id, str(self.image)
        return filesystem.Marked(
            self.images, image_id, name, self.mark, self.made is None, generation
        )

    def fs_type(self, asked: str) -> str:
        """Return the filesystem for a request that asks for this one, or for none.

        Raises:
            Refused: the image's metadata, which anyone with the pool can write, names another kind.
        """
        made_for = self.made.fs_type if self.made else None
        fs_type = asked or made_for or capabilities.DEFAULT_FILESYSTEM
        if fs_type not in capabilities.FILESYSTEMS:
            raise errors.Refused(
                f"image {self.image}: its metadata {spec.KEY} names the filesystem {fs_type!r}; it "
                f"must be one of {', '.join(capabilities.FILESYSTEMS)}"
            )
        return fs_type

    def watching(
        self, mapper: mappers.Mapper
    ) -> contextlib.AbstractContextManager[Callable[[], frozenset[str]]]:
        """Give what lists the image's watchers, not needed where the mapper tells its client."""
        if mapper.tells_client:
            return contextlib.nullcontext(frozenset)
        return self.images.watched(self.image.image_name)


def opened(
    connection: connections.Connection, place: locations.Place, handle: handles.VolumeHandle
) -> Volume:
    """Return the volume.

    Raises:
        NotFound: its image is gone.
    """
    images = Images(place.ioctx)
    name, header = images.name_of(handle.image_id), images.header(handle.image_id)
    if name is None or header is None:
        raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
    image = mappers.Image(
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
        mappers.Access(connection.monitors, connection.user, connection.key),
        spec.read(header.metadata, name),
        header.metadata.get(filesystem.KEY),
    )
