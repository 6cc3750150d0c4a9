"""ListVolumes and ControllerGetVolume: volumes and the nodes that they are attached to.

Neither opens an image.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.volumes import spec

_log = structlog.get_logger()

# A full page of entries stays below gRPC's default message limit of 4 MiB.
MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class VolumeEntry:
    """A volume in a list. It has no size: that would take a read of each image's header."""

    handle: ids.VolumeHandle
    image: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Volumes in a fixed order; `next_token` is empty on the last page."""

    volumes: tuple[VolumeEntry, ...]
    next_token: str


@dataclass(frozen=True)
class VolumeInfo:
    """One volume: its size in bytes, its spec (None for an unmanaged image), and its nodes."""

    handle: ids.VolumeHandle
    size: int
    image: str
    pool: str
    spec: spec.VolumeSpec | None
    nodes: tuple[str, ...]


_Position = tuple[ids.LocationId, str]


class Catalogue:
    """Lists volumes, and returns one by its handle."""

    def __init__(
        self, pooled: connections.Connections, volume_locations: locations.Locations
    ) -> None:
        self._connections = pooled
        self._locations = volume_locations

    def page(self, most: int, token: str) -> Page:
        """Return a page of volumes, ordered by location and image name.

        A volume that exists during the whole listing is on exactly one page.

        Args:
            most: the most entries of the page; 0 takes the driver's own limit.
            token: the `next_token` of the previous page; empty for the first page.

        Raises:
            Busy: this driver did not issue the token (CSI: ABORTED).
            InvalidRequest: `most` is negative.
        """
        if most < 0:
            raise errors.InvalidRequest(f"max_entries is {most}; it must not be negative")
        most = min(most or MOST_ENTRIES, MOST_ENTRIES)
        after = _parse(token) if token else None
        volumes: list[VolumeEntry] = []
        for location in self._locations.all():
            if after and location.id < after[0]:
                continue
            volumes += _volumes_in(location, after)
            if len(volumes) > most:
                return Page(tuple(volumes[:most]), _token(volumes[most - 1]))
        return Page(tuple(volumes), "")

    def get(self, handle: ids.VolumeHandle, credentials: Credentials | None = None) -> VolumeInfo:
        """Return one volume.

        Raises:
            NotFound: it does not exist, or is being deleted.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            location = self._locations.open(connection, handle.location)
            images = location.images
            name, header = images.name_of(handle.image_id), images.header(handle.image_id)
            if name is None or header is None:
                raise errors.NotFound(f"volume {handle} does not exist")
            volume_spec = spec.read(header.metadata, name)
            record = store.Records(location.ioctx).get(handle.image_id)
            nodes = tuple(sorted(record.attachments))
            return VolumeInfo(handle, header.size, name, location.pool, volume_spec, nodes)


def _volumes_in(location: locations.Location, after: _Position | None) -> Iterator[VolumeEntry]:
    prefixes = location.prefixes()
    nodes = _nodes_by_image(location)
    start = after[1] if after and after[0] == location.id else ""
    for image_id, name in sorted(location.images.all(), key=lambda image: image[1]):
        if name > start and name.startswith(prefixes):
            handle = ids.VolumeHandle(location.id, image_id)
            yield VolumeEntry(handle, name, nodes.get(image_id, ()))


def _nodes_by_image(location: locations.Location) -> dict[str, tuple[str, ...]]:
    return {
        image_id: tuple(sorted(record.attachments))
        for image_id, record in store.Records(location.ioctx).all()
    }


def _token(last: VolumeEntry) -> str:
    location = last.handle.location
    position = [location.cluster_id, location.pool_id, location.namespace, last.image]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _parse(token: str) -> _Position:
    try:
        cluster_id, pool_id, namespace, image = json.loads(base64.urlsafe_b64decode(token))
        return ids.LocationId(str(cluster_id), int(pool_id), str(namespace)), str(image)
    except (ValueError, TypeError) as error:
        raise errors.Busy(
            f"starting_token {token[:64]!r} is not of this driver; list from the start again"
        ) from error
