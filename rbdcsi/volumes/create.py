"""CreateVolume. The image's name is the idempotency key, so no journal is needed that can go stale.

A process may die between any two steps; when the call is repeated, it finds the image and completes
or recognises it. The first process that writes the metadata, by compare-and-swap, decides the spec.
"""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import filesystems, ids, image_names, mkfs_options, sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.telemetry import steps
from rbdcsi.volumes import spec
from rbdcsi.volumes.placement import Placement


@dataclass(frozen=True)
class Volume:
    """An existing volume; size in bytes."""

    handle: ids.VolumeHandle
    size: int
    pool: str
    image: str


@dataclass(frozen=True)
class Request:
    """The request of CreateVolume; sizes in bytes, 0 is no bound."""

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
        """Create the volume, or return the one that the same request created before.

        Raises:
            SizeOutOfRange, InvalidRequest: no volume can have these properties.
            AlreadyExists: a volume of that name exists; the message lists the differences.
            Exhausted: the pool or the cluster is full.
            Busy: another process creates or deletes a volume of that name.
        """
        parameters = request.parameters
        if request.fs_type:
            allowed = filesystems.TABLE[request.fs_type].mkfs_allowed
            mkfs_options.parse(parameters.node.mkfs_options, request.fs_type, allowed)
        size = sizes.choose(
            request.required,
            request.limit,
            fs_type=request.fs_type,
            object_bytes=parameters.object_bytes,
        )
        cluster_id = self._placement.cluster_of(parameters)
        with self._connections.use(cluster_id, credentials) as connection:
            location = self._placement.location(connection, parameters)
            return _create(location, request, size)


def _create(location: locations.Location, request: Request, size: int) -> Volume:
    images, parameters = location.images, request.parameters
    new_spec = spec.from_request(request.name, request.fs_type, parameters)
    name = image_names.image_name(parameters.name_prefix, request.name)
    try:
        images.create(name, size, new_spec.layout)
        created = True
        steps.done("create.image", image=name)
    except errors.AlreadyExists:
        created = False
    image_id = images.id_of(name)
    if image_id is None:
        raise errors.Busy(f"image {name} was removed while it was being created; try again")
    volume = Volume(ids.VolumeHandle(location.id, image_id), size, location.pool, name)
    pairs = spec.metadata(new_spec, parameters)
    if created and images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
        steps.done("create.metadata", image=name)
        return volume
    return _recognise(location, request, new_spec, volume)


def _recognise(
    location: locations.Location, request: Request, new_spec: spec.VolumeSpec, volume: Volume
) -> Volume:
    """Return the existing volume if it is as requested; complete it if it has no metadata yet."""
    images, image_id = location.images, volume.handle.image_id
    header = images.header(image_id)
    deleting = store.Records(location.ioctx).get(image_id).deleting
    if header is None and images.remove_broken_off(volume.image):
        raise errors.Busy(
            f"volume {request.name!r}: the remains of an interrupted creation were removed; try "
            "again"
        )
    if header is None or deleting:
        verb = "deleted" if deleting else "created by another process"
        raise errors.Busy(f"volume {request.name!r} is being {verb}; try again")
    existing = spec.read(header.metadata, volume.image)
    half_made = existing is None
    reasons = list(
        spec.differences(
            existing or new_spec, header.size, new_spec, request.required, request.limit
        )
    )
    if half_made:
        reasons += spec.layout_differences(header, new_spec.layout)
        if not reasons and images.holds_data(image_id):
            reasons.append("it holds data, which a new volume does not")
    if reasons:
        kind = "and is not a volume of this driver" if half_made else ""
        raise errors.AlreadyExists(
            f"volume {request.name!r}: image {location.pool}/{volume.image} exists {kind}".rstrip()
            + f", but {'; '.join(reasons)}; choose another name, or delete the other one first"
        )
    if half_made:
        pairs = spec.metadata(new_spec, request.parameters)
        if not images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
            raise errors.Busy(
                f"volume {request.name!r} is being created by another process; try again"
            )
        steps.done("create.adopted", image=volume.image)
    return Volume(volume.handle, header.size, volume.pool, volume.image)
