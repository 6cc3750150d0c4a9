"""ListSnapshots and GetSnapshot: what Ceph says of snapshots. No image is opened."""

import base64
import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import connections, locations, omap
from rbdcsi.ceph.connection import Connection
from rbdcsi.ceph.lineage import ImageSnapshot
from rbdcsi.ceph.objects import Header
from rbdcsi.config.credentials import Credentials
from rbdcsi.model import ids
from rbdcsi.runtime.futures import Future
from rbdcsi.snapshots import store
from rbdcsi.snapshots.group_records import group_of

MOST_ENTRIES = omap.PAGE
_AHEAD = 32  # images whose headers are read together


@dataclass(frozen=True)
class Snapshot:
    """A snapshot, perhaps of a group: `size` in bytes, `created_ns` in nanoseconds since 1970."""

    handle: ids.SnapshotHandle
    size: int
    created_ns: int
    group: ids.GroupHandle | None = None


@dataclass(frozen=True)
class Page:
    """Snapshots in a fixed order; `next_token` is empty on the last page."""

    snapshots: tuple[Snapshot, ...]
    next_token: str


def described(volume: ids.VolumeHandle, snapshot: ImageSnapshot, name: str = "") -> Snapshot:
    """Return the snapshot of a volume as a caller sees it; `name` is that of its record."""
    handle = ids.SnapshotHandle(volume, snapshot.snap_id)
    return Snapshot(handle, snapshot.size, snapshot.created_ns, group_of(name))


class SnapshotCatalogue:
    """Lists snapshots, and returns one by its handle."""

    def __init__(
        self, pooled: connections.Connections, volume_locations: locations.Locations
    ) -> None:
        self._connections = pooled
        self._locations = volume_locations

    def get(self, handle: ids.SnapshotHandle, credentials: Credentials | None = None) -> Snapshot:
        """Return one snapshot, also one that another program took.

        Raises:
            NotFound: it does not exist, or was deleted.
        """
        location_id = handle.volume.location
        with (
            self._connections.use(location_id.cluster_id) as own,
            self._connections.use(location_id.cluster_id, credentials) as connection,
        ):
            location = self._locations.open(connection, location_id)
            header = location.images.header(handle.volume.image_id)
            stored = store.Snapshots(own.home(), location_id.cluster_id).of_snapshot(handle)
        snapshot = header.user_snapshot(handle.snap_id) if header else None
        if snapshot is None:
            raise errors.NotFound(f"snapshot {handle} does not exist")
        return described(handle.volume, snapshot, stored.record.name if stored else "")

    def page(
        self,
        most: int,
        token: str,
        volume: ids.VolumeHandle | None = None,
        credentials: Credentials | None = None,
    ) -> Page:
        """Return a page of the snapshots that the driver took, by volume and time.

        Args:
            most: the most entries of the page; 0 takes the driver's own limit.
            token: the `next_token` of the previous page; empty for the first page.
            volume: only snapshots of this volume; None lists those of every volume.
            credentials: user and key of the call; None takes the configured ones.

        Raises:
            Busy: this driver did not issue the token (CSI: ABORTED).
            InvalidRequest: `most` is negative.
            Unavailable: a cluster or pool with snapshots does not answer.
        """
        if most < 0:
            raise errors.InvalidRequest(f"max_entries is {most}; it must not be negative")
        most = min(most or MOST_ENTRIES, MOST_ENTRIES)
        after = _parse(token) if token else None
        snapshots = list(itertools.islice(self._from(after, volume, credentials), most + 1))
        if len(snapshots) <= most:
            return Page(tuple(snapshots), "")
        return Page(tuple(snapshots[:most]), _token(snapshots[most - 1]))

    def _from(
        self,
        after: ids.SnapshotHandle | None,
        volume: ids.VolumeHandle | None,
        credentials: Credentials | None,
    ) -> Iterator[Snapshot]:
        """Yield the snapshots after one; None is before the first one."""
        for cluster_id in sorted(each.cluster_id for each in self._connections.configured.clusters):
            if volume and volume.location.cluster_id != cluster_id:
                continue
            start = after
            if after and (at := after.volume.location.cluster_id) != cluster_id:
                if cluster_id < at:
                    continue
                start = None
            with (
                self._connections.use(cluster_id) as own,
                self._connections.use(cluster_id, credentials) as connection,
            ):
                recorded = store.Snapshots(own.home(), cluster_id).taken(start, volume)
                yield from _existing(self._locations, connection, recorded)


def _existing(
    every: locations.Locations,
    connection: Connection,
    recorded: Iterable[tuple[ids.SnapshotHandle, str]],
) -> Iterator[Snapshot]:
    """Yield those snapshots that their images' headers have, with the next headers' reads begun."""
    begun: deque[tuple[ids.VolumeHandle, dict[int, str], Future[Header | None]]] = deque()
    by_volume = itertools.groupby(recorded, lambda each: each[0].volume)
    for volume, of_volume in by_volume:
        names = {handle.snap_id: name for handle, name in of_volume}
        with contextlib.suppress(errors.NotFound):  # the pool is gone
            images = every.open(connection, volume.location).images
            begun.append((volume, names, images.begin_header(volume.image_id)))
        if len(begun) > _AHEAD:
            yield from _in_header(*begun.popleft())
    for each in begun:
        yield from _in_header(*each)


def _in_header(
    volume: ids.VolumeHandle, names: dict[int, str], reading: Future[Header | None]
) -> Iterator[Snapshot]:
    try:
        header = reading.result()
    except (errors.Forbidden, errors.NotFound):
        return
    except errors.Unavailable as error:
        raise type(error)(
            f"snapshots cannot be listed, because the pool of volume {volume} does not answer: "
            f"{error}"
        ) from error
    existing = {each.snap_id: each for each in header.user_snapshots()} if header else {}
    yield from (
        described(volume, existing[snap_id], name)
        for snap_id, name in names.items()
        if snap_id in existing
    )


def _token(last: Snapshot) -> str:
    return base64.urlsafe_b64encode(str(last.handle).encode()).decode()


def _parse(token: str) -> ids.SnapshotHandle:
    try:
        return ids.parse_snapshot(base64.urlsafe_b64decode(token).decode())
    except (ValueError, errors.NotFound) as error:
        raise errors.Busy(
            f"starting_token {token[:64]!r} is not of this driver; list from the start again"
        ) from error
