"""Snapshot records in Ceph: one object at the cluster's home location.

A CSI name is one key, whatever the pool, so the same name never stands for two snapshots. Beside it
stands a key of the snapshot's id, written in the same operation: the two cannot differ. The truth
about a snapshot is the image's header: a record whose snapshot is gone from there counts as none.
"""

import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.ceph import connections, locations, omap
from rbdcsi.model import ids
from rbdcsi.runtime.futures import Future
from rbdcsi.snapshots.records import SNAPSHOT_RECORD, SnapshotRecord

OBJECT = "rbdcsi.snapshots"
_NAME = "name/"
_SOURCE = "source/"


@dataclass(frozen=True)
class StoredSnapshot:
    """A record and the text that is stored for it; both are None if there is none."""

    text: str | None = None
    record: SnapshotRecord | None = None


class Snapshots:
    """The snapshot records of one cluster."""

    def __init__(self, home: connections.Ioctx, cluster_id: str) -> None:
        """Use the records at the home location.

        Args:
            home: the I/O context of the configured user: a call's own may have no right there.
            cluster_id: the cluster, for handles.
        """
        self._ioctx = home
        self._omap = omap.Omap(home, OBJECT)
        self._cluster_id = cluster_id

    def named(self, name: str) -> StoredSnapshot:
        """Return the record of a CSI name.

        Raises:
            Failed: it is damaged.
        """
        return self.begin_named(name).result()

    def begin_named(self, name: str) -> Future[StoredSnapshot]:
        """Begin to read the record of a CSI name; see `named`."""
        key = _name_key(name)
        return self._omap.begin_get(key).then(lambda text: _stored(key, text))

    def of_snapshot(self, handle: ids.SnapshotHandle) -> StoredSnapshot:
        """Return the record of a snapshot, an empty one if CreateSnapshot did not take it.

        Raises:
            Failed: it is damaged.
        """
        quoted = self._omap.get(_source_key(handle))
        stored = self.named(urllib.parse.unquote(quoted)) if quoted else StoredSnapshot()
        # the name may stand for a newer snapshot by now
        return stored if stored.record and stored.record.handle == handle else StoredSnapshot()

    def swap(self, name: str, before: StoredSnapshot, record: SnapshotRecord | None) -> bool:
        """Replace a record if it is still stored as it was read.

        Args:
            name: the CSI name.
            before: the record as it was read.
            record: the new record; None removes it.

        Returns:
            Whether it was still the same, and has changed.
        """
        text = None if record is None else SNAPSHOT_RECORD.encode(record)
        quoted, old, new = _quoted(name), _key_beside(before.record), _key_beside(record)
        beside: dict[str, str | None] = dict.fromkeys(old - new)
        beside |= dict.fromkeys(new, quoted)
        return self._omap.swap(_name_key(name), before.text, text, beside)

    def taken(
        self, after: ids.SnapshotHandle | None = None, volume: ids.VolumeHandle | None = None
    ) -> Iterator[tuple[ids.SnapshotHandle, str]]:
        """Yield handle and CSI name of each recorded snapshot, in a fixed order, by volume.

        Args:
            after: only those after this one.
            volume: only those of this volume.
        """
        prefix = _volume_prefix(volume) if volume else _SOURCE
        start = _source_key(after) if after else ""
        while pairs := omap.begin_page(self._ioctx, OBJECT, prefix, start).result():
            for key, quoted in pairs:
                yield self._handle(key), urllib.parse.unquote(quoted.decode())
            if len(pairs) < omap.PAGE:
                return
            start = pairs[-1][0]

    def unfinished(self) -> Iterator[SnapshotRecord]:
        """Yield the records of snapshots that have no id yet; damaged ones are left out."""
        for key, text in self._omap.items(_NAME):
            try:
                record = SNAPSHOT_RECORD.decode(text, f"object {OBJECT}, key {key}")
            except errors.Failed:
                continue
            if record.snap_id is None:
                yield record

    def _handle(self, key: str) -> ids.SnapshotHandle:
        pool_id, namespace, image_id, snap_id = key.removeprefix(_SOURCE).split("/")
        location_id = locations.location_id(self._cluster_id, f"{pool_id}/{namespace}")
        return ids.SnapshotHandle(ids.VolumeHandle(location_id, image_id), int(snap_id, 16))


def _stored(key: str, text: str | None) -> StoredSnapshot:
    if text is None:
        return StoredSnapshot()
    return StoredSnapshot(text, SNAPSHOT_RECORD.decode(text, f"object {OBJECT}, key {key}"))


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _name_key(name: str) -> str:
    return _NAME + _quoted(name)


def _volume_prefix(volume: ids.VolumeHandle) -> str:
    return f"{_SOURCE}{locations.location_key(volume.location)}/{volume.image_id}/"


def _source_key(handle: ids.SnapshotHandle) -> str:
    """Return the key of a snapshot; a volume's keys are sorted by the snapshots' ids."""
    return f"{_volume_prefix(handle.volume)}{handle.snap_id:016x}"


def _key_beside(record: SnapshotRecord | None) -> set[str]:
    handle = record.handle if record else None
    return {_source_key(handle)} if handle else set()
