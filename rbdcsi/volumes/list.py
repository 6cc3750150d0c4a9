"""ListVolumes and ControllerGetVolume: volumes and the nodes that have them, no image opened."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations
from rbdcsi.ceph.images import Images
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.volumes import spec

_log = structlog.get_logger()

# A full page of entries stays below gRPC's default message limit of 4 MiB.
MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class Listed:
    """A volume in a list; its size is left out, it would take a look into each image."""

    handle: ids.VolumeHandle
    image: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Volumes in a fixed order; `next_token` is empty on the last page."""

    volumes: tuple[Listed, ...]
    next_token: str


@dataclass(frozen=True)
class Found:
    """One volume with its size in bytes, what it was made as (None: by hand), and its nodes."""

    handle: ids.VolumeHandle
    size: int
    image: str
    pool: str
    spec: spec.VolumeSpec | None
    nodes: tuple[str, ...]


_Position = tuple[ids.LocationId, str]


class Catalogue:
    """Looks volumes up."""

    def __init__(self, pooled: connections.Connections, known: locations.Locations) -> None:
        self._connections = pooled
        self._locations = known

    def page(self, most: int, token: str) -> Page:
        """Return a page of volumes, ordered by location and image name.

        A volume that exists during the whole listing is on exactly one page.

        Args:
            most: entries at most; 0 leaves it to the driver.
            token: where the page before ended; empty for the first.

        Raises:
            Busy: the token is none that this driver gave (CSI: ABORTED).
            InvalidRequest: `most` is negative.
        """
        if most < 0:
            raise errors.InvalidRequest(f"max_entries is {most}; it must not be negative")
        most = min(most or MOST_ENTRIES, MOST_ENTRIES)
        after = _parse(token) if token else None
        listed: list[Listed] = []
        for place in self._locations.all():
            if after and place.id < after[0]:
                continue
            listed += _volumes_at(place, after)
            if len(listed) > most:
                last = listed[most - 1]
                return Page(tuple(listed[:most]), _token(last))
        return Page(tuple(listed), "")

    def get(self, handle: ids.VolumeHandle, credentials: Credentials | None = None) -> Found:
        """Return one volume.

        Raises:
            NotFound: it does not exist, or is being deleted.
        """
        with self._connections.use(handle.location.cluster_id, credentials) as connection:
            place = self._locations.open(connection, handle.location)
            images = Images(place.ioctx)
            name, header = images.name_of(handle.image_id), images.header(handle.image_id)
            if name is None or header is None:
                raise errors.NotFound(f"volume {handle} does not exist")
            made = spec.read(header.metadata, name)
            record = store.Records(place.ioctx).get(handle.image_id)
            nodes = tuple(sorted(record.attachments))
            return Found(handle, header.size, name, place.pool, made, nodes)


def _volumes_at(place: locations.Location, after: _Position | None) -> Iterator[Listed]:
    prefixes = place.prefixes()
    nodes = _nodes_by_image(place)
    start = after[1] if after and after[0] == place.id else ""
    for image_id, name in sorted(Images(place.ioctx).all(), key=lambda image: image[1]):
        if name > start and name.startswith(prefixes):
            handle = ids.VolumeHandle(place.id, image_id)
            yield Listed(handle, name, nodes.get(image_id, ()))


def _nodes_by_image(place: locations.Location) -> dict[str, tuple[str, ...]]:
    return {
        image_id: tuple(sorted(record.attachments))
        for image_id, record in store.Records(place.ioctx).all()
    }


def _token(last: Listed) -> str:
    place = last.handle.location
    position = [place.cluster_id, place.pool_id, place.namespace, last.image]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _parse(token: str) -> _Position:
    try:
        cluster_id, pool_id, namespace, image = json.loads(base64.urlsafe_b64decode(token))
        return ids.LocationId(str(cluster_id), int(pool_id), str(namespace)), str(image)
    except (ValueError, TypeError) as error:
        raise errors.Busy(
            f"starting_token {token[:64]!r} is none of this driver's: list from the start again"
        ) from error
