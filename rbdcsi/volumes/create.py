"""CreateVolume. The image's name is the idempotency key, so no journal is needed that can go stale.

A process may die between any two steps; when the call is repeated, it finds the image and completes
or recognises it. The first process that writes the metadata, by compare-and-swap, decides the spec.
An image that librbd has not finished is made again (see `interrupted`). A copy gets its name when
it is finished (see `clone`).
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations, names
from rbdcsi.ceph.objects import Header
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import filesystems, ids, image_names, mkfs_options, sizes
from rbdcsi.model.storage_class import Parameters
from rbdcsi.telemetry import steps
from rbdcsi.volumes import interrupted, sources, spec
from rbdcsi.volumes.clone import Cloner
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request
from rbdcsi.volumes.sources import ContentSource


@dataclass(frozen=True)
class Volume:
    """An existing volume; size in bytes. `source` is what it is a copy of."""

    handle: ids.VolumeHandle
    size: int
    pool: str
    image: str
    source: str | None = None


class Provisioner:
    """Creates volumes."""

    def __init__(
        self,
        pooled: connections.Connections,
        placement: Placement,
        *,
        on_deep: Callable[[ids.LocationId], None] = lambda _: None,
        creation_seconds: float | None = None,
    ) -> None:
        """Create volumes in the configured clusters.

        Args:
            pooled: the connections to the clusters.
            placement: chooses the location of a volume.
            on_deep: called with the location of an image that is to be flattened.
            creation_seconds: a creation that stays unchanged for so long was cut off; None takes
                it from the time that an operation may take.
        """
        self._connections = pooled
        self._placement = placement
        self._on_deep = on_deep
        if creation_seconds is None:
            creation_seconds = interrupted.creation_seconds(pooled.timeout)
        self._interrupted = interrupted.InterruptedCreations(creation_seconds)

    def create(self, request: Request, credentials: Credentials | None = None) -> Volume:
        """Create the volume, or return the one that the same request created before.

        Raises:
            SizeOutOfRange, InvalidRequest: no volume, or no copy of this source, can have these
                properties.
            NotFound: the source of a copy does not exist.
            AlreadyExists: a volume of that name exists; the message lists the differences.
            Exhausted: the pool or the cluster is full.
            Busy: another process creates or deletes a volume of that name.
        """
        parameters = request.parameters
        if request.fs_type:
            _require_mkfs_options(parameters.node.mkfs_options, request.fs_type)
        size = sizes.choose(
            request.required,
            request.limit,
            fs_type=request.fs_type,
            object_bytes=parameters.object_bytes,
        )
        cluster_id = self._placement.cluster_of(parameters)
        if request.content:
            sources.require_cluster(request.content, cluster_id)
        name = image_names.image_name(parameters.name_prefix, request.name)
        with self._connections.use(cluster_id, credentials) as connection:
            location = self._placement.location(connection, parameters)
            if request.content:
                with self._connections.use(cluster_id) as own_connection:
                    cloner = Cloner(
                        own_connection,
                        connection,
                        self._placement.locations,
                        location,
                        self._on_deep,
                    )
                    return self._copy(cloner, location, request.content, request, name)
            return self._create(location, request, name, size)

    def _create(
        self, location: locations.Location, request: Request, name: str, size: int
    ) -> Volume:
        new_spec = _asked_spec(request)
        volume = _new_volume(location, name, size, new_spec, request.parameters)
        if volume:
            return volume
        existing = _whole(location, name, *_ids(location, name))
        existing = existing or self._interrupted.finished(location, name)
        if existing is None:
            return self._create(location, request, name, size)
        return _recognise(location, request, new_spec, name, *existing)

    def _copy(
        self,
        cloner: Cloner,
        location: locations.Location,
        content: ContentSource,
        request: Request,
        name: str,
    ) -> Volume:
        with cloner.begun(content) as begun:
            existing = self._existing(location, name)
            if existing is None:
                with contextlib.suppress(errors.AlreadyExists):  # another call was faster
                    image_id, size = cloner.make(begun, request, name)
                    handle = ids.VolumeHandle(location.id, image_id)
                    return Volume(handle, size, location.pool, name, str(content))
        if existing:
            return _recognise(location, request, _asked_spec(request), name, *existing)
        return self._copy(cloner, location, content, request, name)

    def _existing(self, location: locations.Location, name: str) -> tuple[str, Header] | None:
        """Return id and header of the image that has a copy's name, None if there is none."""
        named_id, listed_id = _ids(location, name)
        existing = _whole(location, name, named_id, listed_id)
        if existing is None and (named_id or listed_id):
            existing = self._interrupted.finished(location, name)
        return existing


def _require_mkfs_options(text: str, fs_type: str) -> None:
    filesystem = filesystems.TABLE[fs_type]
    mkfs_options.parse(text, fs_type, filesystem.mkfs_allowed)
    mkfs_options.require_together(text, fs_type, filesystem.mkfs_allowed, filesystem.mkfs_rules)


def _asked_spec(request: Request) -> spec.VolumeSpec:
    source = str(request.content) if request.content else None
    return spec.from_request(request.name, request.fs_type, request.parameters, source)


def _ids(location: locations.Location, name: str) -> tuple[str | None, str | None]:
    """Return the ids that the name's object and the directory have for a name, None without one."""
    reading = names.begin_listed_id(location.ioctx, name)
    return location.images.id_of(name), reading.result()


def _whole(
    location: locations.Location, name: str, named_id: str | None, listed_id: str | None
) -> tuple[str, Header] | None:
    """Return id and header of the volume whose image has that name, None if there is none.

    If the renaming of a finished copy was cut off, it is finished. The ids are those of `_ids`.
    """
    images, image_id = location.images, named_id or listed_id
    header = images.header(image_id) if image_id else None
    if image_id is None or header is None or spec.read(header.metadata, name) is None:
        return None
    if named_id is None:
        if store.Records(location.ioctx).get(image_id).deleting:
            return None
        names.finish_rename(location.ioctx, name, image_id)
        if images.name_of(image_id) != name:  # it was deleted just now
            names.remove(location.ioctx, name, image_id)
            return None
    return image_id, header


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
    reasons = (
        list(_differences(existing, header, new_spec, request))
        if existing
        else list(_obstacles(location, image_id, header, new_spec, request))
    )
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
    handle, source = ids.VolumeHandle(location.id, image_id), new_spec.source
    return Volume(handle, header.size, location.pool, name, source)


def _differences(
    existing: spec.VolumeSpec, header: Header, new_spec: spec.VolumeSpec, request: Request
) -> Iterator[str]:
    """Yield the differences between a volume and a request."""
    if existing.source and existing.fs_type and new_spec.fs_type and not request.filesystem_named:
        new_spec = dataclasses.replace(new_spec, fs_type=existing.fs_type)  # the source decided
    return spec.differences(existing, header.size, new_spec, request.required, request.limit)


def _obstacles(
    location: locations.Location,
    image_id: str,
    header: Header,
    new_spec: spec.VolumeSpec,
    request: Request,
) -> Iterator[str]:
    """Yield why an image without a spec cannot become the volume of a request."""
    differences = [
        *spec.differences(new_spec, header.size, new_spec, request.required, request.limit),
        *spec.layout_differences(header, new_spec.layout, location.pool),
    ]
    if request.content or header.parent:
        differences.append("it is no copy that this driver made")
    if not differences and location.images.holds_data(image_id):
        differences.append("it holds data, which a new volume does not")
    yield from differences
