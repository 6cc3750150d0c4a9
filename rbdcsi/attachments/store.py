"""Attachment records in Ceph: next to the images, in objects sharded by image id.

Beside a record stands a key for each node that has the volume, written in the same operation: what
a node holds is found without reading every record, and cannot differ from the records.
"""

import contextlib
import itertools
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rbdcsi import errors
from rbdcsi.attachments import records
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.ceph import connections, omap

SHARDS = 16  # volumes that are attached at the same moment seldom meet in one object
_TRIES = 20
_NODE = "~node/"  # image ids are digits and lower-case letters: they all come before it


def object_names() -> list[str]:
    """Return the names of the objects that hold a location's records."""
    return [f"rbdcsi.attachments.{shard}" for shard in range(SHARDS)]


@dataclass(frozen=True)
class Seen:
    """A record and the text that it was read from; None is no record."""

    text: str | None
    record: VolumeRecord


class Records:
    """The attachment records of one location."""

    def __init__(self, ioctx: connections.Ioctx) -> None:
        self._ioctx = ioctx

    def get(self, image_id: str) -> VolumeRecord:
        """Return the volume's record, an empty one if it has none.

        Raises:
            Failed: the record is damaged.
        """
        return self.see(image_id).record

    def see(self, image_id: str) -> Seen:
        """Return the volume's record as `change` can start from it."""
        return self.begin_see(image_id)()

    def begin_see(self, image_id: str) -> Callable[[], Seen]:
        """Begin to read the record; what is returned waits for it."""
        reading = self._shard(image_id).begin_get(image_id)

        def finish() -> Seen:
            text = reading()
            return Seen(text, VolumeRecord() if text is None else self._decode(image_id, text))

        return finish

    def change(
        self,
        image_id: str,
        rule: Callable[[VolumeRecord], VolumeRecord | None],
        seen: Seen | None = None,
    ) -> VolumeRecord | None:
        """Replace the record by what `rule` makes of it, whoever else changes it meanwhile.

        Args:
            image_id: whose record.
            rule: pure; may be called several times; None removes the record; its errors go out.
            seen: what the caller has just read, which saves reading it again.

        Returns:
            What the rule made of the record that was replaced.

        Raises:
            Busy: others changed the record each time.
        """
        shard = self._shard(image_id)
        for _ in range(_TRIES):
            seen = seen or self.see(image_id)
            after = rule(seen.record)
            wanted = None if after is None else records.encode(after)
            nodes = _node_keys(image_id, seen.record, after or VolumeRecord())
            if after == seen.record or shard.swap(image_id, seen.text, wanted, nodes):
                return after
            seen = None
        raise errors.Busy(f"the attachment record of image {image_id} keeps changing; try again")

    def all(self) -> Iterator[tuple[str, VolumeRecord]]:
        """Yield image id and record of every volume that has one.

        Raises:
            Failed: one is damaged.
        """
        for image_id, text in self._texts():
            yield image_id, self._decode(image_id, text)

    def deleting(self) -> list[str]:
        """Return the ids of the images that are being deleted; a damaged record says of none."""
        found = []
        for image_id, text in self._texts():
            with contextlib.suppress(errors.Failed):
                if self._decode(image_id, text).deleting:
                    found.append(image_id)
        return found

    def held_by(self, node_id: str) -> list[str]:
        """Return the ids of the images that the node has attached."""
        prefix = _node_key(node_id, "")
        return [
            key.removeprefix(prefix)
            for name in object_names()
            for key, _ in omap.Omap(self._ioctx, name).items(prefix)
        ]

    def _texts(self) -> Iterator[tuple[str, str]]:
        for name in object_names():
            items = omap.Omap(self._ioctx, name).items()
            yield from itertools.takewhile(lambda item: item[0] < _NODE, items)

    def _shard(self, image_id: str) -> omap.Omap:
        return omap.Omap(self._ioctx, object_name(image_id))

    def _decode(self, image_id: str, text: str) -> VolumeRecord:
        return records.decode(text, f"object {object_name(image_id)}, key {image_id}")


def object_name(image_id: str) -> str:
    """Return the name of the object that holds the record of that image."""
    return f"rbdcsi.attachments.{zlib.crc32(image_id.encode()) % SHARDS}"


def _node_key(node_id: str, image_id: str) -> str:
    return f"{_NODE}{urllib.parse.quote(node_id, safe='')}/{image_id}"


def _node_keys(image_id: str, before: VolumeRecord, after: VolumeRecord) -> dict[str, str | None]:
    """Return the keys of the nodes that come, set, and of those that go, None."""
    come = after.attachments.keys() - before.attachments.keys()
    go = before.attachments.keys() - after.attachments.keys()
    return {_node_key(node, image_id): "1" if node in come else None for node in come | go}
