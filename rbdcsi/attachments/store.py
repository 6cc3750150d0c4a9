"""Attachment records in Ceph: next to the images, in objects sharded by image id.

Beside a record stands a key for each node that has the volume attached, and one while the volume is
being deleted, written in the same operation. So the volumes of a node, and the deleted ones, are
listed without reading every record, and the lists cannot differ from the records.
"""

import contextlib
import itertools
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments.records import RECORD, VolumeRecord
from rbdcsi.ceph import omap
from rbdcsi.ceph.connection import Ioctx
from rbdcsi.runtime.futures import Future

SHARDS = 16  # volumes that are attached at the same moment seldom meet in one object
_TRIES = 20
_NODE = "~node/"  # image ids are digits and lower-case letters: they all come before it
_TRASH = "~trash/"  # after _NODE: drivers that do not know it read no further than that


def object_names() -> list[str]:
    """Return the names of the objects that hold a location's records."""
    return [f"rbdcsi.attachments.{shard}" for shard in range(SHARDS)]


def object_name(image_id: str) -> str:
    """Return the name of the object that holds the record of that image."""
    return f"rbdcsi.attachments.{zlib.crc32(image_id.encode()) % SHARDS}"


@dataclass(frozen=True)
class StoredRecord:
    """A record and the text that is stored for it; None is no record."""

    text: str | None
    record: VolumeRecord


class Records:
    """The attachment records of one location."""

    def __init__(self, ioctx: Ioctx) -> None:
        self._ioctx = ioctx

    def get(self, image_id: str) -> VolumeRecord:
        """Return the volume's record, an empty one if it has none.

        Raises:
            Failed: the record is damaged.
        """
        return self.read(image_id).record

    def read(self, image_id: str) -> StoredRecord:
        """Return the volume's record as `change` can start from it; see `get`."""
        return self.begin_read(image_id).result()

    def begin_read(self, image_id: str) -> Future[StoredRecord]:
        """Begin to read the volume's record; see `read`."""
        return self._shard(image_id).begin_get(image_id).then(lambda text: _stored(image_id, text))

    def change(
        self,
        image_id: str,
        rule: Callable[[VolumeRecord], VolumeRecord | None],
        stored: StoredRecord | None = None,
    ) -> StoredRecord:
        """Replace the record by `rule(record)`; repeat if another process changed it in between.

        Args:
            image_id: whose record.
            rule: pure; may be called several times; None removes the record; its errors are
                raised.
            stored: the record as the caller has just read it, which saves reading it again.

        Returns:
            The record as it is stored now.

        Raises:
            Busy: others changed the record each time.
        """
        shard = self._shard(image_id)
        for _ in range(_TRIES):
            before = stored or self.read(image_id)
            record = rule(before.record)
            if record == before.record:
                return before
            after = StoredRecord(
                None if record is None else RECORD.encode(record), record or _EMPTY
            )
            lists = _changed(listed_by(image_id, before.record), listed_by(image_id, after.record))
            if shard.swap(image_id, before.text, after.text, lists):
                return after
            stored = None
        raise errors.Busy(f"the attachment record of image {image_id} keeps changing; try again")

    def all(self) -> Iterator[tuple[str, VolumeRecord]]:
        """Yield image id and record of every volume that has one.

        Raises:
            Failed: one is damaged.
        """
        for image_id, record in self.each():
            if isinstance(record, errors.Failed):
                raise record
            yield image_id, record

    def each(self) -> Iterator[tuple[str, VolumeRecord | errors.Failed]]:
        """Yield image id and record of every volume that has one; of a damaged one, the error."""
        for image_id, text in self._texts():
            try:
                yield image_id, _stored(image_id, text).record
            except errors.Failed as error:
                yield image_id, error

    def several(self, image_ids: Sequence[str]) -> dict[str, VolumeRecord]:
        """Return the records of those of the images that have one.

        Raises:
            Failed: one is damaged.
        """
        texts = self._texts_of(image_ids)
        return {image_id: _stored(image_id, text).record for image_id, text in texts.items()}

    def deleting(self) -> list[str]:
        """Return the ids of the images that are being deleted; damaged records are left out.

        Older drivers did not list them, so this reads every record.
        """
        return [
            image_id
            for image_id, record in self.each()
            if isinstance(record, VolumeRecord) and record.deleting
        ]

    def listed_as_deleting(self) -> list[str]:
        """Return the ids of the images that are being deleted, by the keys for that.

        An older driver may have ended a deletion and left the key, so the record decides.
        """
        return self.deleting_among([image_id for image_id, _ in self._keys(_TRASH)])

    def deleting_among(self, image_ids: Sequence[str]) -> list[str]:
        """Return those of the images that are being deleted; damaged records are left out."""
        texts, deleting = self._texts_of(image_ids), list[str]()
        for image_id in image_ids:
            text = texts.get(image_id)
            with contextlib.suppress(errors.Failed):
                if _stored(image_id, text).record.deleting:
                    deleting.append(image_id)
                else:
                    self._shard(image_id).swap(image_id, text, text, {_TRASH + image_id: None})
        return deleting

    def attached_to(self, node_id: str) -> list[str]:
        """Return the ids of the images that the node has attached."""
        return self.begin_attached_to(node_id).result()

    def begin_attached_to(self, node_id: str) -> Future[list[str]]:
        """Begin to read `attached_to`."""
        reading = self._begin_keys(_node_key(node_id, ""))
        return reading.then(lambda keys: [image_id for image_id, _ in keys])

    def nodes(self) -> set[str]:
        """Return the ids of all nodes that have volumes attached here."""
        return {urllib.parse.unquote(key.partition("/")[0]) for key, _ in self._keys(_NODE)}

    def node_keys(self, image_id: str) -> list[str]:
        """Return the keys of the nodes that have the volume attached; damage does not hide them."""
        items = omap.Omap(self._ioctx, object_name(image_id)).items(_NODE)
        return [key for key, _ in items if key.endswith(f"/{image_id}")]

    def _texts(self) -> Iterator[tuple[str, str]]:
        for items in self._begin_items("").result():
            yield from itertools.takewhile(lambda item: item[0] < _NODE, items)

    def _texts_of(self, image_ids: Sequence[str]) -> dict[str, str]:
        by_shard: dict[str, list[str]] = {}
        for image_id in image_ids:
            by_shard.setdefault(object_name(image_id), []).append(image_id)
        readings = [
            omap.Omap(self._ioctx, name).begin_get_several(shard_ids)
            for name, shard_ids in by_shard.items()
        ]
        return {key: text for reading in readings for key, text in reading.result().items()}

    def _keys(self, prefix: str) -> Iterator[tuple[str, str]]:
        return self._begin_keys(prefix).result()

    def _begin_keys(self, prefix: str) -> Future[Iterator[tuple[str, str]]]:
        """Begin to read the keys with this prefix in all objects; it is not in the results."""
        return self._begin_items(prefix).then(
            lambda objects: (
                (key.removeprefix(prefix), value) for items in objects for key, value in items
            )
        )

    def _begin_items(self, prefix: str) -> Future[list[Iterator[tuple[str, str]]]]:
        """Begin to read the items with this prefix in each object."""
        readings = [omap.Omap(self._ioctx, name).begin_items(prefix) for name in object_names()]
        return Future(lambda: [reading.result() for reading in readings])

    def _shard(self, image_id: str) -> omap.Omap:
        return omap.Omap(self._ioctx, object_name(image_id))


_EMPTY = VolumeRecord()


def _stored(image_id: str, text: str | None) -> StoredRecord:
    if text is None:
        return StoredRecord(None, _EMPTY)
    return StoredRecord(
        text, RECORD.decode(text, f"object {object_name(image_id)}, key {image_id}")
    )


def _node_key(node_id: str, image_id: str) -> str:
    return f"{_NODE}{urllib.parse.quote(node_id, safe='')}/{image_id}"


def listed_by(image_id: str, record: VolumeRecord) -> dict[str, str]:
    """Return the keys, with values, that stand beside a record: of its nodes and its deletion."""
    keys = [_node_key(node, image_id) for node in record.attachments]
    if record.deleting:
        keys.append(_TRASH + image_id)
    return dict.fromkeys(keys, "1")


def _changed(before: dict[str, str], after: dict[str, str]) -> dict[str, str | None]:
    """Return the keys to set, and to remove (None)."""
    removed = dict.fromkeys(before.keys() - after.keys())
    return {**removed, **{key: after[key] for key in after.keys() - before.keys()}}
