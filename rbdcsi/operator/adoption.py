"""Makes a volume of an image that another program made, such as ceph-csi; its data is only read.

Two writes: the location is made known, then one operation writes spec and mark, if there is no
spec yet. A process that dies before the second has adopted nothing; the repeat finishes or
recognises the adoption. What the other program keeps of the image is left as it is.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments.store import Records
from rbdcsi.ceph import ceph_csi, inspection, mirroring, trash
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.locations import Location, Locations
from rbdcsi.ceph.objects import Header
from rbdcsi.host.block import signature
from rbdcsi.model import format_mark, image_layout, image_names
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.model.ids import VolumeHandle
from rbdcsi.model.image_layout import CHOOSABLE, Layout
from rbdcsi.model.storage_class import Parameters
from rbdcsi.operator import adoption_rules
from rbdcsi.operator.adoption_rules import Facts, Wish
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.spec import VolumeSpec

_READ_SECONDS = 30.0


@dataclass(frozen=True)
class ImageName:
    """An image: its cluster, pool and RADOS namespace, None for the configured ones."""

    name: str
    cluster_id: str | None = None
    pool: str | None = None
    namespace: str | None = None

    def parameters(self) -> Parameters:
        """Return the parameters by which CreateVolume would have made the image's location."""
        return Parameters(
            cluster_id=self.cluster_id,
            pool=self.pool,
            namespace=self.namespace,
            name_prefix=image_names.listed_prefix(self.name),
        )


def parse(text: str, cluster_id: str | None) -> ImageName:
    """Return the image of `IMAGE`, `POOL/IMAGE` or `POOL/NAMESPACE/IMAGE`.

    Raises:
        InvalidRequest: the text has another form.
    """
    parts = text.split("/")
    if not all(parts) or len(parts) > 3 or "@" in text:
        raise errors.InvalidRequest(
            f"{text!r} names no image; write IMAGE, POOL/IMAGE or POOL/NAMESPACE/IMAGE"
        )
    if len(parts) == 1:
        return ImageName(text, cluster_id)
    return ImageName(parts[-1], cluster_id, parts[0], parts[1] if len(parts) == 3 else "")


@dataclass(frozen=True)
class Adoption:
    """An adoption that may be carried out; `done` says that it was before.

    Attributes:
        handle: the volume's.
        image: `POOL/IMAGE`, for messages.
        size: of the image, in bytes.
        spec: the volume's.
        marked: whether a mark of an earlier use is there, which stays.
        volume_name: the name of ceph-csi's PersistentVolume; empty if it is no volume of ceph-csi.
        parent: the snapshot that the image is a clone of, None if it is none.
        snapshots: whether it has snapshots.
    """

    handle: VolumeHandle
    image: str
    size: int
    spec: VolumeSpec
    marked: bool
    done: bool
    volume_name: str
    parent: str | None
    snapshots: bool


def examine(pooled: Connections, image_name: ImageName, wish: Wish) -> Adoption:
    """Return the adoption of an image; nothing is written.

    Args:
        pooled: the connections.
        image_name: the image.
        wish: the use that is asked for.

    Raises:
        NotFound: no such image.
        AlreadyExists: it is a volume of this driver, and was not adopted as the same.
        Refused: it must not be adopted; the message says why.
    """
    placement, parameters = Placement(pooled, Locations(pooled)), image_name.parameters()
    with pooled.use(placement.cluster_of(parameters)) as connection:
        location = placement.find(connection, parameters)
        image = "/".join(filter(None, (location.pool, location.id.namespace, image_name.name)))
        image_id, header = _found(location, image_name.name, image)
        handle = VolumeHandle(location.id, image_id)
        existing = spec.read(header.metadata, image)
        facts = _facts(location, handle, image_name.name, image, header)
        adoption_rules.require_kept(facts)
        if existing is None:
            adoption_rules.require_unused(facts)
        adoption_rules.require_mappable(facts, wish)
        fs_type = adoption_rules.filesystem(facts, wish)
        layout = _layout(connection, header)
        # No CreateVolume can ask for this name: its images have a prefix before it.
        asked = VolumeSpec(image_name.name, fs_type, layout, wish.node)
        if existing is not None:
            adoption_rules.require_same(existing, asked, image)
        return Adoption(
            handle,
            image,
            header.size,
            asked,
            facts.mark is not None,
            existing is not None,
            facts.traces.volume_name if facts.traces else "",
            facts.inspection.parent,
            bool(header.snapshots),
        )


def carry_out(
    pooled: Connections, image_name: ImageName, adoption: Adoption, names: Mapping[str, str]
) -> None:
    """Write the volume's metadata, as CreateVolume does.

    Args:
        pooled: the connections.
        image_name: the image.
        adoption: as `examine` returned it.
        names: those of claim and PersistentVolume, by their keys of `spec`.

    Raises:
        NotFound: the image has gone since.
        Busy: another process has made it a volume since.
    """
    placement, image_id = Placement(pooled, Locations(pooled)), adoption.handle.image_id
    with pooled.use(adoption.handle.location.cluster_id) as connection:
        data_pool = adoption.spec.layout.data_pool
        parameters = dataclasses.replace(image_name.parameters(), data_pool=data_pool)
        location = placement.location(connection, parameters)
        steps.done("adopt.location", image=adoption.image)
        if adoption.done:
            return
        pairs = {spec.KEY: spec.SPEC.encode(adoption.spec), **names}
        fs_type = adoption.spec.fs_type
        if fs_type and not adoption.marked:
            mark = Mark(Phase.FORMATTED, fs_type, generation=0)
            pairs[format_mark.KEY] = format_mark.MARK.encode(mark)
        if not location.images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
            raise errors.Busy(
                f"image {adoption.image}: another process has just made it a volume; try again"
            )
        steps.done("adopt.metadata", image=adoption.image)


def _found(location: Location, name: str, image: str) -> tuple[str, Header]:
    """Return the image's id and header."""
    image_id = location.images.id_of(name)
    header = location.images.header(image_id) if image_id else None
    if image_id and header and location.images.name_of(image_id) == name:
        return image_id, header
    if trashed := trash.id_of(location.ioctx, name):
        raise errors.NotFound(
            f"image {image} is in the trash; take it out first: `rbd trash restore --pool "
            f"{location.pool} --image-id {trashed}`"
        )
    raise errors.NotFound(f"there is no image {image}; `rbd ls --pool {location.pool}` lists them")


def _facts(
    location: Location, handle: VolumeHandle, name: str, image: str, header: Header
) -> Facts:
    ioctx, image_id = location.ioctx, handle.image_id
    inspected = inspection.inspect(ioctx, image_id, image, signature.ends(header.size))
    watched = bool(inspected.watchers)
    return Facts(
        image,
        header,
        Records(ioctx).get(image_id),
        format_mark.read_mark(header.metadata.get(format_mark.KEY), image),
        inspected,
        mirroring.daemons(ioctx, image_id) if watched else frozenset(),
        signature.content_of_parts(header.size, inspected.parts, seconds=_READ_SECONDS),
        ceph_csi.read(ioctx, name),
    )


def _layout(connection: Connection, header: Header) -> Layout:
    """Return the layout by which CreateVolume would have made the image."""
    features = set(image_layout.names(header.features))
    pool_id = header.data_pool_id
    return Layout(
        tuple(name for name in CHOOSABLE if name in features),
        header.object_bytes,
        header.stripe_unit,
        header.stripe_count,
        None if pool_id is None else connection.pool_numbered(pool_id).name,
    )
