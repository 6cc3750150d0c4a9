"""CreateVolume. The image's name is the idempotency key, so no journal is needed that can go stale.

A process may die between any two steps; when the call is repeated, it finds the image and completes
or recognises it. The first process that writes the metadata, by compare-and-swap, decides the spec.
An image that librbd has not finished is made again (see `interrupted`).
"""

from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.objects import Header
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import filesystems, ids, image_names, mkfs_options, sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.telemetry import steps
from rbdcsi.volumes import interrupted, spec
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

    def __init__(
        self,
        pooled: connections.Connections,
        placement: Placement,
        *,
        creation_seconds: float | None = None,
    ) -> None:
        """Create volumes in the configured clusters.

        Args:
            pooled: the connections to the clusters.
            placement: chooses the location of a volume.
            creation_seconds: a creation that stays unchanged for so long was cut off; None takes
                it from the time that an operation may take.
        """
        self._connections = pooled
        self._placement = placement
        if creation_seconds is None:
            creation_seconds = interrupted.creation_seconds(pooled.timeout)
        self._interrupted = interrupted.InterruptedCreations(creation_seconds)

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
            return self._create(location, request, size)

    def _create(self, location: locations.Location, request: Request, size: int) -> Volume:
        new_spec = spec.from_request(request.name, request.fs_type, request.parameters)
        name = image_names.image_name(request.parameters.name_prefix, request.name)
        volume = _new_volume(location, name, size, new_spec, request.parameters)
        if volume:
            return volume
        existing = self._existing(location, name)
        if existing is None:
            return self._create(location, request, size)
        return _recognise(location, request, new_spec, name, *existing)

    def _existing(self, location: locations.Location, name: str) -> tuple[str, Header] | None:
        """Return id and header of the image of that name, None if an unfinished one was removed."""
        images = location.images
        image_id = images.id_of(name)
        header = images.header(image_id) if image_id else None
        if image_id and header and spec.read(header.metadata, name):
            return image_id, header
        return self._interrupted.finished(location, name)


def _new_volume(
    location: locations.Location,
    name: str,
    size: int,
    new_spec: spec.VolumeSpec,
    parameters: Parameters,
) -> Volume | None:
    """Create the image and write its spec; return None if the image or its spec exists."""
    images = location.images
    try:
        images.create(name, size, new_spec.layout)
    except errors.AlreadyExists:
        return None
    steps.done("create.image", image=name)
    image_id, pairs = images.id_of(name), spec.metadata(new_spec, parameters)
    if image_id is None or not images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
        return None
    steps.done("create.metadata", image=name)
    return Volume(ids.VolumeHandle(location.id, image_id), size, location.pool, name)


def _recognise(
    location: locations.Location,
    request: Request,
    new_spec: spec.VolumeSpec,
    name: str,
    image_id: str,
    header: Header,
) -> Volume:
    """Return the existing volume if it is as requested; complete it if it has no metadata yet."""
    if store.Records(location.ioctx).get(image_id).deleting:
        raise errors.Busy(f"volume {request.name!r} is being deleted; try again")
    existing = spec.read(header.metadata, name)
    reasons = list(
        spec.differences(
            existing or new_spec, header.size, new_spec, request.required, request.limit
        )
    )
    if existing is None:
        reasons += spec.layout_differences(header, new_spec.layout)
        if not reasons and location.images.holds_data(image_id):
            reasons.append("it holds data, which a new volume does not")
    if reasons:
        kind = "and is not a volume of this driver" if existing is None else ""
        raise errors.AlreadyExists(
            f"volume {request.name!r}: image {location.pool}/{name} exists {kind}".rstrip()
            + f", but {'; '.join(reasons)}; choose another name, or delete the other one first"
        )
    if existing is None:
        pairs = spec.metadata(new_spec, request.parameters)
        if not location.images.set_metadata(image_id, pairs, key=spec.KEY, old=None):
            raise errors.Busy(
                f"volume {request.name!r} is being created by another process; try again"
            )
        steps.done("create.adopted", image=name)
    return Volume(ids.VolumeHandle(location.id, image_id), header.size, location.pool, name)
