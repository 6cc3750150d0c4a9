"""An image's header object, decoded: one omap read (0.2 ms) instead of opening the image (4 ms).

The format is RBD's own, version 2 (Ceph source: src/cls/rbd/cls_rbd.cc), as krbd relies on it, too;
a test compares each field with what librbd says.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from rbdcsi.ceph.lineage import (
    ImageSnapshot,
    Parent,
    SnapshotKind,
    decode_parent,
    decode_snapshot,
)

HEADER = "rbd_header."
ID = "rbd_id."
DIRECTORY = "rbd_directory"
TRASH = "rbd_trash"
_METADATA = "metadata_"
_SNAPSHOT = "snapshot_"
PARENT = "parent"  # the key of the header


@dataclass(frozen=True)
class Header:
    """The decoded header; sizes in bytes. `rbd image-meta list` shows `metadata`.

    `snapshots` are of every kind, sorted by id.
    """

    size: int
    object_bytes: int
    features: int
    stripe_unit: int | None
    stripe_count: int | None
    data_pool_id: int | None
    metadata: Mapping[str, str]
    snapshots: tuple[ImageSnapshot, ...] = ()
    parent: Parent | None = None

    def user_snapshots(self) -> tuple[ImageSnapshot, ...]:
        """Return the snapshots that are neither removed nor of a group or of mirroring."""
        return tuple(each for each in self.snapshots if each.kind is SnapshotKind.USER)

    def user_snapshot(self, snap_id: int) -> ImageSnapshot | None:
        """Return the user's snapshot of that id, None if there is none."""
        return next((each for each in self.user_snapshots() if each.snap_id == snap_id), None)

    def user_snapshot_named(self, name: str) -> ImageSnapshot | None:
        """Return the user's snapshot of that name, None if there is none."""
        return next((each for each in self.user_snapshots() if each.name == name), None)


def metadata_key(name: str) -> str:
    """Return the header's omap key of an image-meta key."""
    return _METADATA + name


def decode(omap: Mapping[str, bytes]) -> Header:
    """Return the header in that omap; raises ValueError if no version 2 image has such a header."""
    try:
        return Header(
            size=_number("<Q", omap["size"]),
            object_bytes=1 << omap["order"][0],
            features=_number("<Q", omap["features"]),
            stripe_unit=_optional("<Q", omap.get("stripe_unit")),
            stripe_count=_optional("<Q", omap.get("stripe_count")),
            data_pool_id=_optional("<q", omap.get("data_pool_id")),
            metadata={
                key.removeprefix(_METADATA): value.decode(errors="replace")
                for key, value in omap.items()
                if key.startswith(_METADATA)
            },
            snapshots=tuple(
                decode_snapshot(value)
                for key, value in sorted(omap.items())
                if key.startswith(_SNAPSHOT)
            ),
            parent=decode_parent(omap[PARENT]) if PARENT in omap else None,
        )
    except (KeyError, IndexError, struct.error) as error:
        raise ValueError(f"not the header of a version 2 image: {error!r}") from error


def text(encoded: bytes) -> str:
    """Decode a string as Ceph encodes it: its length in 32 bits, then its bytes."""
    (length,) = struct.unpack_from("<I", encoded)
    return encoded[4 : 4 + length].decode()


def metadata_set_argument(pairs: Mapping[str, str]) -> bytes:
    """Encode the argument of the class method rbd.metadata_set: a map of strings."""
    encoded = struct.pack("<I", len(pairs))
    for key, value in sorted(pairs.items()):
        encoded += counted(key) + counted(value)
    return encoded


def counted(text: str) -> bytes:
    """Encode a string as Ceph does; see `text`."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _number(form: str, encoded: bytes) -> int:
    return int(struct.unpack_from(form, encoded)[0])


def _optional(form: str, encoded: bytes | None) -> int | None:
    return None if encoded is None else _number(form, encoded)
