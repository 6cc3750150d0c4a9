"""Snapshot records in Ceph: one object at the cluster's home location.

A CSI name is one key, whatever the pool, so the same name never stands for two snapshots. Beside it
stands a key of the snapshot's id, written in the same operation: the two cannot differ. The truth
about a snapshot is the image's header: a record whose snapshot is gone from there counts as none.
"""

import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from rbdcsi import errors
from rbdcsi.ceph import locations, omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.model import ids
from rbdcsi.runtime.futures import Future
from rbdcsi.snapshots.records import SNAPSHOT_RECORD, SnapshotRecord

OBJECT = "rbdcsi.snapshots"
_NAME = "name/"
_SOURCE = "source/"  # snapshots that were taken, by volume and id
_TAKING = "taking/"  # names of those that may not be taken yet, by volume


@dataclass(frozen=True)
class StoredSnapshot:
    """A record and the text that is stored for it."""

    text: str
    record: SnapshotRecord

    @classmethod
    def of(cls, record: SnapshotRecord) -> Self:
        """Return a record with the text that `Snapshots.swap` stores for it."""
        return cls(SNAPSHOT_RECORD.encode(record), record)


class Snapshots:
    """The snapshot records of one cluster."""

    def __init__(self, home: Ioctx, cluster_id: str) -> None:
        """Use the records at the home location.

        Args:
            home: the I/O context of the configured user: a call's own may have no right there.
            cluster_id: the cluster, for handles.
        """
        self._ioctx = home
        self._omap = omap.Omap(home, OBJECT)
        self._cluster_id = cluster_id

    def named(self, name: str) -> StoredSnapshot | None:
        """Return the record of a CSI name, None if it has none.

        Raises:
            Failed: it is damaged.
        """
        return self.begin_named(name).result()

    def begin_named(self, name: str) -> Future[StoredSnapshot | None]:
        """Begin to read the record of a CSI name; see `named`."""
        key = name_key(name)
        return self._omap.begin_get(key).then(lambda text: _stored(key, text))

    def of_snapshot(self, handle: ids.SnapshotHandle) -> StoredSnapshot | None:
        """Return the record of a snapshot, None if CreateSnapshot did not take it.

        Raises:
            Failed: it is damaged.
        """
        return self.begin_of_snapshot(handle).result()

    def begin_of_snapshot(self, handle: ids.SnapshotHandle) -> Future[StoredSnapshot | None]:
        """Begin to read the record of a snapshot; see `of_snapshot`."""

        def named(quoted: str | None) -> StoredSnapshot | None:
            stored = self.named(urllib.parse.unquote(quoted)) if quoted else None
            # the name may stand for a newer snapshot by now
            return stored if source_key in _keys_beside(stored) else None

        source_key = _source_key(handle)
        return self._omap.begin_get(source_key).then(named)

    def swap(self, name: str, before: StoredSnapshot | None, after: StoredSnapshot | None) -> bool:
        """Replace a record if it is still stored as it was read, and no other has its snapshot.

        Args:
            name: the CSI name.
            before: the record as it was read; None if there was none.
            after: the new record; None removes it.

        Returns:
            Whether the record has changed.
        """
        old, new = _keys_beside(before), _keys_beside(after)
        beside: dict[str, str | None] = dict.fromkeys(old - new)
        beside |= dict.fromkeys(new - old, _quoted(name))
        return self._omap.swap(
            name_key(name), _text(before), _text(after), beside, absent=new - old
        )

    def taken(
        self, after: ids.SnapshotHandle | None = None, volume: ids.VolumeHandle | None = None
    ) -> Iterator[tuple[ids.SnapshotHandle, str]]:
        """Yield handle and CSI name of each recorded snapshot, in a fixed order, by volume.

        Args:
            after: only those after this one.
            volume: only those of this volume.
        """
        prefix = _SOURCE + (_volume_key(volume) if volume else "")
        start = _source_key(after) if after else ""
        while pairs := omap.begin_page(self._ioctx, OBJECT, prefix, start).result():
            for key, quoted in pairs:
                yield self._handle(key), urllib.parse.unquote(quoted.decode())
            if len(pairs) < omap.PAGE:
                return
            start = pairs[-1][0]

    def each(self) -> Iterator[tuple[str, SnapshotRecord | errors.Failed]]:
        """Yield the CSI name and record of every snapshot; of a damaged one, the error."""
        for key, text in self._omap.items(_NAME):
            name = urllib.parse.unquote(key.removeprefix(_NAME))
            try:
                yield name, SNAPSHOT_RECORD.decode(text, f"object {OBJECT}, key {key}")
            except errors.Failed as error:
                yield name, error

    def being_taken(self, volume: ids.VolumeHandle) -> list[str]:
        """Return the CSI names of the volume's snapshots that may not be taken yet."""
        keys = self._omap.items(_TAKING + _volume_key(volume))
        return [urllib.parse.unquote(quoted) for _, quoted in keys]

    def all_being_taken(self) -> Iterator[tuple[ids.VolumeHandle, str]]:
        """Yield volume and CSI name of each snapshot that may not be taken yet."""
        for key, quoted in self._omap.items(_TAKING):
            volume_key, _, _ = key.removeprefix(_TAKING).rpartition("/")
            yield self._volume(volume_key), urllib.parse.unquote(quoted)

    def _handle(self, key: str) -> ids.SnapshotHandle:
        volume_key, _, snap_id = key.removeprefix(_SOURCE).rpartition("/")
        return ids.SnapshotHandle(self._volume(volume_key), int(snap_id, 16))

    def _volume(self, key: str) -> ids.VolumeHandle:
        location_key, _, image_id = key.rpartition("/")
        return ids.VolumeHandle(locations.location_id(self._cluster_id, location_key), image_id)


def _stored(key: str, text: str | None) -> StoredSnapshot | None:
    if text is None:
        return None
    return StoredSnapshot(text, SNAPSHOT_RECORD.decode(text, f"object {OBJECT}, key {key}"))


def _text(stored: StoredSnapshot | None) -> str | None:
    return None if stored is None else stored.text


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def name_key(name: str) -> str:
    """Return the key of the record of a CSI name."""
    return _NAME + _quoted(name)


def _volume_key(volume: ids.VolumeHandle) -> str:
    return f"{locations.location_key(volume.location)}/{volume.image_id}/"


def _source_key(handle: ids.SnapshotHandle) -> str:
    """Return the key of a snapshot; a volume's keys are sorted by the snapshots' ids."""
    return f"{_SOURCE}{_volume_key(handle.volume)}{handle.snap_id:016x}"


def _keys_beside(stored: StoredSnapshot | None) -> set[str]:
    """Return the keys that stand beside a record."""
    if stored is None:
        return set()
    record = stored.record
    if record.handle:
        return {_source_key(record.handle)}
    return {_TAKING + _volume_key(record.volume) + _quoted(record.name)}
