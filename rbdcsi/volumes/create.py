"""CreateVolume: the image's name is the idempotency key, so there is no journal to go stale.

A process may die between any two steps; the same call finds the image, completes it or recognises
it. Who writes the metadata first, by compare-and-swap, decides what the volume is.
"""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import filesystems, ids, image_names, mkfs_options, sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec
from rbdcsi.volumes.placement import Placement


@dataclass(frozen=True)
class Volume:
    """A volume that exists; size in bytes."""

    handle: ids.VolumeHandle
    size: int
    pool: str
    image: str


@dataclass(frozen=True)
class Request:
    """What CreateVolume asks for; sizes in bytes, 0 leaves a bound open."""

    name: str
    required: int
    limit: int
    fs_type: str | None
    parameters: Parameters


class Provisioner:
    """Creates volumes."""

    def __init__(self, pooled: connections.Connections, placement: Placement) -> None:
        self._connections = pooled
        self._placement = placement

    def create(self, request: Request, credentials: Credentials | None = None) -> Volume:
        """Create the volume, or recognise it if the same request did so before.

        Raises:
            SizeOutOfRange, InvalidRequest: such a volume cannot be; Ceph was not asked.
            AlreadyExists: a volume of that name is different; the message says in what.
            Exhausted: pool or cluster is full.
            Busy: a volume of that name is just being deleted.
        """
        given = request.parameters
        if request.fs_type:
            allowed = filesystems.TABLE[request.fs_type].mkfs_allowed
            mkfs_options.parse(given.node.mkfs_options, request.fs_type, allowed)
        size = sizes.choose(
            request.required,
            request.limit,
            fs_type=request.fs_type,
            object_bytes=given.object_bytes,
        )
        with self._connections.use(self._placement.cluster_of(given), credentials) as connection:
            place = self._placement.location(connection, given)
            return _create(place, request, size)


def _create(place: locations.Location, request: Request, size: int) -> Volume:
    images, given = Images(place.ioctx), request.parameters
    wanted = spec.from_request(request.name, request.fs_type, given)
    name = image_names.image_name(given.name_prefix, request.name)
    try:
        images.create(name, size, wanted.layout)
        created = True
        steps.done("create.image", image=name)
    except errors.AlreadyExists:
        created = False
    image_id = images.id_of(name)
    if image_id is None:
        raise errors.Busy(f"image {name} was removed while it was being created; try again")
    volume = Volume(ids.VolumeHandle(place.id, image_id), size, place.pool, name)
    pairs = spec.metadata(wanted, given)
    if created and images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
        steps.done("create.metadata", image=name)
        return volume
    return _recognise(images, place, request, wanted, volume)


def _recognise(
    images: Images,
    place: locations.Location,
    request: Request,
    wanted: spec.VolumeSpec,
    volume: Volume,
) -> Volume:
    """Return the volume that is there already, if it is the one that is wanted."""
    image_id = volume.handle.image_id
    header = images.header(image_id)
    deleting = store.Records(place.ioctx).get(image_id).deleting
    if header is None and images.remove_broken_off(volume.image):
        raise errors.Busy(
            f"volume {request.name!r}: an earlier creation broke off, its remains are removed; "
            "try again"
        )
    if header is None or deleting:
        verb = "deleted" if deleting else "created elsewhere"
        raise errors.Busy(f"volume {request.name!r} is being {verb}; try again")
    found = spec.read(header.metadata, volume.image)
    half_made = found is None
    reasons = list(
        spec.differences(found or wanted, header.size, wanted, request.required, request.limit)
    )
    if half_made:
        reasons += spec.layout_differences(header, wanted.layout)
        if not reasons and images.holds_data(image_id):
            reasons.append("it holds data, which a volume that is just being made does not")
    if reasons:
        made = "and is not a volume of this driver" if half_made else ""
        raise errors.AlreadyExists(
            f"volume {request.name!r}: image {place.pool}/{volume.image} exists {made}".rstrip()
            + f", but {'; '.join(reasons)}; choose another name, or delete the other one first"
        )
    if half_made:
        pairs = spec.metadata(wanted, request.parameters)
        if not images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
            raise errors.Busy(f"volume {request.name!r} is being created elsewhere; try again")
        steps.done("create.adopted", image=volume.image)
    return Volume(volume.handle, header.size, volume.pool, volume.image)
