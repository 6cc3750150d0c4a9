"""ListVolumes and ControllerGetVolume: volumes and the nodes that they are attached to.

Neither opens an image.
"""

import base64
import contextlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog

from rbdcsi import errors
from rbdcsi.attachments import store
from rbdcsi.ceph import connections, locations, omap
from rbdcsi.ceph.connection import Connection
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids, image_names
from rbdcsi.runtime.futures import Future
from rbdcsi.volumes import spec

_log = structlog.get_logger()

# One read of a location's images fills a page, and shows whether more follow. Ten thousand fit into
# a message of gRPC, but such a page takes 10 MB of memory in its three forms.
MOST_ENTRIES = omap.PAGE - 1


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
_AHEAD = 8  # locations whose first reads are under way together


class Catalogue:
    """Lists volumes, and returns one by its handle."""

    def __init__(
        self, pooled: connections.Connections, volume_locations: locations.Locations
    ) -> None:
        self._connections = pooled
        self._locations = volume_locations
        self._empty: set[str] = set()  # clusters that held no volumes when they answered last

    def page(self, most: int, token: str) -> Page:
        """Return a page of volumes, ordered by location and image name.

        A volume that exists during the whole listing is on exactly one page. An image that is
        attached counts as one, although another program made it (a static volume).

        Args:
            most: the most entries of the page; 0 takes the driver's own limit.
            token: the `next_token` of the previous page; empty for the first page.

        Raises:
            Busy: this driver did not issue the token (CSI: ABORTED).
            InvalidRequest: `most` is negative.
            Unavailable: a cluster or pool that holds volumes does not answer.
        """
        if most < 0:
            raise errors.InvalidRequest(f"max_entries is {most}; it must not be negative")
        most = min(most or MOST_ENTRIES, MOST_ENTRIES)
        volumes: list[VolumeEntry] = []
        for volume in self._from(_parse(token) if token else None, _images_read(most + 1)):
            if len(volumes) == most:
                return Page(tuple(volumes), _token(volumes[-1]))
            volumes.append(volume)
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
            record = store.Records(location.ioctx).get(handle.image_id)
            if record.deleting:
                raise errors.NotFound(f"volume {handle} is being deleted since {record.deleting}")
            volume_spec = spec.read(header.metadata, name)
            nodes = tuple(sorted(record.attachments))
            return VolumeInfo(handle, header.size, name, location.pool, volume_spec, nodes)

    def _from(self, position: _Position | None, images: int) -> Iterator[VolumeEntry]:
        """Yield the volumes after a position; None is before the first one.

        Args:
            position: of the last volume of the page before.
            images: how many images to read at once.
        """
        clusters = self._connections.configured.clusters
        for cluster_id in sorted(cluster.cluster_id for cluster in clusters):
            if position and cluster_id < position[0].cluster_id:
                continue
            if position and cluster_id == position[0].cluster_id:
                # Its images mostly fill the page, and then the list of locations is not read.
                yield from self._of(cluster_id, [position[0]], position[1], images)
            location_ids = self._known(cluster_id)
            others = [each for each in location_ids if not position or each > position[0]]
            if others:  # otherwise it may be a cluster that does not answer
                yield from self._of(cluster_id, others, "", images)

    def _of(
        self, cluster_id: str, location_ids: Iterable[ids.LocationId], after: str, images: int
    ) -> Iterator[VolumeEntry]:
        """Yield the volumes of locations of one cluster; see `_from`.

        Args:
            cluster_id: the cluster.
            location_ids: its locations.
            after: images up to this name are left out.
            images: how many images to read at once.
        """
        with _explained(cluster_id):
            self._connections.get(cluster_id)
        with self._connections.use(cluster_id) as connection:
            opened = _opened(self._locations, connection, location_ids)
            for begun in _begun_ahead(opened, after, images):
                yield from begun.volumes(images)

    def _known(self, cluster_id: str) -> list[ids.LocationId]:
        """Return the locations of a cluster; none if it does not answer and had none before."""
        try:
            with _explained(cluster_id):
                location_ids = self._locations.known(cluster_id)
        except errors.Unavailable:
            if cluster_id in self._empty:
                return []
            raise
        (self._empty.discard if location_ids else self._empty.add)(cluster_id)
        return location_ids


@dataclass(frozen=True)
class _Begun:
    """A location whose first reads are under way; images up to the name `after` are left out."""

    location: locations.Location
    after: str
    prefixes: Future[tuple[str, ...]]
    images: Future[omap.Pairs]

    def volumes(self, at_once: int) -> Iterator[VolumeEntry]:
        """Yield the location's volumes, sorted by name; none if the user may not read it."""
        location = self.location
        try:
            prefixes, records = self.prefixes.result(), store.Records(location.ioctx)
            for images in location.images.pages(self.after, self.images, at_once):
                attached = records.several([image_id for image_id, _ in images])
                for image_id, name in images:
                    record = attached.get(image_id)
                    nodes = tuple(sorted(record.attachments)) if record else ()
                    is_deleted = name == image_names.deleted_name(image_id)
                    if nodes or (name.startswith(prefixes) and not is_deleted):
                        yield VolumeEntry(ids.VolumeHandle(location.id, image_id), name, nodes)
        except (errors.Forbidden, errors.NotFound):  # the pool may be gone by now
            return
        except errors.Unavailable as error:
            raise type(error)(
                f"volumes cannot be listed, because pool {location.pool} of cluster "
                f"{location.id.cluster_id} does not answer: {error}"
            ) from error


@contextlib.contextmanager
def _explained(cluster_id: str) -> Iterator[None]:
    try:
        yield
    except errors.Unavailable as error:
        raise errors.Unavailable(
            f"volumes cannot be listed, because cluster {cluster_id} does not answer: {error}"
        ) from error


def _opened(
    every: locations.Locations,
    connection: Connection,
    location_ids: Iterable[ids.LocationId],
) -> Iterator[locations.Location]:
    for location_id in location_ids:
        with contextlib.suppress(errors.NotFound):  # the pool is gone
            yield every.open(connection, location_id)


def _begun_ahead(opened: Iterable[locations.Location], after: str, images: int) -> Iterator[_Begun]:
    """Yield the locations in their order, with the reads of the next ones under way."""
    begun: deque[_Begun] = deque()
    for location in opened:
        first = location.images.begin_page(after, images)
        begun.append(_Begun(location, after, location.begin_prefixes(), first))
        if len(begun) > _AHEAD:
            yield begun.popleft()
    yield from begun


def _images_read(wanted: int) -> int:
    """Return how many images to read at once, so that full reads give hardly more than `wanted`."""
    reads = math.ceil(wanted / omap.PAGE)
    return math.ceil(wanted / reads)


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
