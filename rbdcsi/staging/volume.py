"""A volume as Ceph describes it, opened on a node to be staged."""

import functools
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.locations import Location
from rbdcsi.host.mappers.interface import Access, Image
from rbdcsi.model import filesystems, format_mark, ids, map_options
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.staging import format
from rbdcsi.volumes import spec


@dataclass(frozen=True)
class Volume:
    """The image and its records; `spec` is None for an unmanaged image."""

    ioctx: Ioctx
    records: store.Records
    image: Image
    access: Access
    spec: spec.VolumeSpec | None
    mark: str | None

    @functools.cached_property
    def images(self) -> Images:
        """The images of the volume's location."""
        return Images(self.ioctx)

    @property
    def options(self) -> NodeOptions:
        """The options of the StorageClass for nodes."""
        return self.spec.node if self.spec else NodeOptions()

    @property
    def raw_only(self) -> bool:
        """Whether the driver made the image for raw block use only."""
        return self.spec is not None and self.spec.fs_type is None

    @property
    def made_for_filesystem(self) -> bool:
        """Whether the driver made the image for a filesystem."""
        return self.spec is not None and not self.raw_only

    def marked(self, generation: int) -> format.MarkedImage:
        """Return the image with its mark, used by the attachment of that generation."""
        image = self.image
        identity = (image.fsid, image.pool_id, image.namespace, image.image_id)
        return format.MarkedImage(
            self.images,
            identity,
            image.image_id,
            str(image),
            self.mark,
            self.spec is None,
            generation,
        )

    def fs_type(self, asked: str) -> str:
        """Return the filesystem for a request that names this one, or none (an empty text).

        Raises:
            Refused: the image's metadata, which any client of the pool can write, names another.
        """
        made_for = self.spec.fs_type if self.spec else None
        fs_type = asked or made_for or filesystems.DEFAULT
        if fs_type not in filesystems.TABLE:
            raise errors.Refused(
                f"image {self.image}: its metadata {spec.KEY} names the filesystem {fs_type!r}; it "
                f"must be one of {', '.join(filesystems.TABLE)}"
            )
        return fs_type

    def map_options(self, mapper: str) -> str:
        """Return the options for mapping by that mapper.

        Raises:
            Refused: the image's metadata, which any client of the pool can write, has one that is
                not allowed.
        """
        text = self.options.map_options.get(mapper, "")
        try:
            map_options.parse(mapper, text)
        except errors.InvalidRequest as error:
            raise errors.Refused(
                f"image {self.image}: its metadata {spec.KEY} has map options that are refused: "
                f"{error}; delete the volume and make it again from a StorageClass without them, "
                "or correct the metadata"
            ) from error
        return text


def opened(connection: Connection, location: Location, handle: ids.VolumeHandle) -> Volume:
    """Return the volume.

    Args:
        connection: to the volume's cluster.
        location: the volume's.
        handle: the volume.

    Raises:
        NotFound: its image is gone.
        Failed: its metadata is damaged.
    """
    images = location.images
    reading_name, header = images.begin_name_of(handle.image_id), images.header(handle.image_id)
    name = reading_name.result()
    if name is None or header is None:
        raise errors.NotFound(f"volume {handle} does not exist: its image is gone")
    image = Image(
        connection.fsid,
        handle.location.pool_id,
        location.pool,
        handle.location.namespace,
        handle.image_id,
        name,
        header.features,
    )
    return Volume(
        location.ioctx,
        store.Records(location.ioctx),
        image,
        Access(connection.monitors, connection.user, connection.key),
        spec.read(header.metadata, name),
        header.metadata.get(format_mark.KEY),
    )
