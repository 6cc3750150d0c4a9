"""An image's snapshots and its parent, decoded from the values of its header object.

The format is RBD's own (Ceph source: src/cls/rbd/cls_rbd.h, cls_rbd_snap and cls_rbd_parent;
cls_rbd_types.h, SnapshotNamespace); tests/integration/snapshots compares each field with librbd.
"""

import enum
import struct
from dataclasses import dataclass

NO_SNAPSHOT = 0xFFFFFFFFFFFFFFFE  # CEPH_NOSNAP
_NANOSECONDS = 1_000_000_000


class SnapshotKind(enum.Enum):
    """RBD's namespaces of snapshots; librbd can only clone from those of `USER`."""

    USER = 0
    GROUP = 1  # of a group snapshot
    TRASH = 2  # removed, but a clone still needs it
    MIRROR = 3
    OTHER = -1  # of a newer Ceph


class Protection(enum.Enum):
    """Whether Ceph lets a snapshot be removed."""

    NONE = 0
    ENDING = 1  # no clone of format 1 can be made any more; a rollback uses it, too
    PROTECTED = 2  # for clones of format 1


@dataclass(frozen=True)
class ImageSnapshot:
    """A snapshot: `size` in bytes, `created_ns` in nanoseconds since 1970, `children` are clones.

    Clones of format 1 are not counted. `overlap` is how many bytes may come from the parent of the
    image; None if the image had none.
    """

    snap_id: int
    name: str
    size: int
    kind: SnapshotKind
    created_ns: int
    children: int
    protection: Protection = Protection.NONE
    overlap: int | None = None


@dataclass(frozen=True)
class Parent:
    """The snapshot that an image is a clone of.

    `overlap` is how many bytes come from it at most; None if only snapshots of the image still
    need the parent, because the image itself was flattened.
    """

    pool_id: int
    namespace: str
    image_id: str
    snap_id: int
    overlap: int | None


class _Reader:
    """Reads values as Ceph encodes them, one after another."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self._at = 0

    def number(self, form: str) -> int:
        """Read a number in that form of `struct`."""
        (value,) = struct.unpack_from(form, self._encoded, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def optional(self, form: str) -> int | None:
        """Read a std::optional: a byte says whether the number follows."""
        return self.number(form) if self.number("<B") else None

    def bytes(self) -> bytes:
        """Read bytes after their length in 32 bits."""
        length = self.number("<I")
        self._at += length
        if self._at > len(self._encoded):
            raise ValueError(f"{length} bytes announced, {len(self._encoded)} there")
        return self._encoded[self._at - length : self._at]

    def text(self) -> str:
        """Read a string."""
        return self.bytes().decode(errors="replace")

    def versioned(self) -> "tuple[int, int, _Reader]":
        """Read a struct: its version, the oldest version that can read it, and its content."""
        return self.number("<B"), self.number("<B"), _Reader(self.bytes())


def decode_snapshot(encoded: bytes) -> ImageSnapshot:
    """Return the snapshot in a value of the header.

    Raises:
        ValueError, struct.error: it is none.
    """
    version, oldest, content = _Reader(encoded).versioned()
    snap_id, name, size = content.number("<Q"), content.text(), content.number("<Q")
    parent = None
    if oldest < 8:  # written while OSDs older than Nautilus were allowed
        content.number("<Q")
        if version >= 2:
            parent = _parent(*content.versioned())
    kind, created_ns, children = SnapshotKind.USER, 0, 0
    protection, overlap = Protection.NONE, parent.overlap if parent else None
    if version >= 4:
        protection = Protection(content.number("<B"))
        content.number("<Q")  # flags
    if version >= 5:
        kind = _kind(content.versioned()[2].number("<I"))
    if version >= 6:
        created_ns = content.number("<I") * _NANOSECONDS + content.number("<I")
    if version >= 7:
        children = content.number("<I")
    if version >= 8:
        overlap = content.optional("<Q") or overlap
    return ImageSnapshot(snap_id, name, size, kind, created_ns, children, protection, overlap)


def decode_parent(encoded: bytes) -> Parent | None:
    """Return the parent in a value of the header, None if the image has none any more.

    Raises:
        ValueError, struct.error: it is no parent.
    """
    return _parent(*_Reader(encoded).versioned())


def _parent(version: int, _oldest: int, content: _Reader) -> Parent | None:
    pool_id = content.number("<q")
    namespace = content.text() if version >= 2 else ""
    image_id, snap_id = content.text(), content.number("<Q")
    overlap = content.optional("<Q") if version >= 2 else content.number("<Q")
    if pool_id < 0 or not image_id or snap_id == NO_SNAPSHOT:
        return None
    return Parent(pool_id, namespace, image_id, snap_id, overlap)


def _kind(number: int) -> SnapshotKind:
    try:
        return SnapshotKind(number)
    except ValueError:
        return SnapshotKind.OTHER
