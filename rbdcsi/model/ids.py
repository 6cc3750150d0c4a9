"""Handles of volumes and snapshots, and locations: what a volume_id or snapshot_id names.

Only this module reads and writes these ids; every other module uses the parsed handle.
"""

import re
from dataclasses import dataclass

from rbdcsi import errors

MAX_BYTES = 128  # CSI spec, "Size Limits": the longest string a plugin may return

CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
NAMESPACE = re.compile(r"[A-Za-z0-9._-]{0,48}")
_POOL_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_IMAGE_ID = re.compile(r"[0-9a-z]{1,24}")  # librbd: hexadecimal digits; rbd CLI may set others

_TOKEN = re.compile(r"[0-9a-f]{16}")
_SNAP_ID = re.compile(r"[1-9][0-9]{0,19}")

_VERSION = "v1"
_SNAPSHOT_VERSION = "s1"
_GROUP_VERSION = "g1"


@dataclass(frozen=True, order=True)
class LocationId:
    """The location of an image: the clusterID, the number of the pool, the RADOS namespace."""

    cluster_id: str
    pool_id: int
    namespace: str


@dataclass(frozen=True)
class VolumeHandle:
    """A volume's identity: its location and the image's id, which a rename does not change."""

    location: LocationId
    image_id: str

    def __str__(self) -> str:
        location = self.location
        return ":".join(
            (
                _VERSION,
                location.cluster_id,
                str(location.pool_id),
                location.namespace,
                self.image_id,
            )
        )


@dataclass(frozen=True)
class SnapshotHandle:
    """A snapshot's identity: the volume that it was taken of, and RBD's id of the snapshot.

    The text of one in a RADOS namespace with a long name may be longer than a CSI string.
    """

    volume: VolumeHandle
    snap_id: int

    def __str__(self) -> str:
        _, _, volume = str(self.volume).partition(":")
        return f"{_SNAPSHOT_VERSION}:{volume}:{self.snap_id}"


@dataclass(frozen=True)
class GroupHandle:
    """The identity of a group snapshot: the cluster that has its record, and a random token."""

    cluster_id: str
    token: str

    def __str__(self) -> str:
        return f"{_GROUP_VERSION}:{self.cluster_id}:{self.token}"


def parse(text: str) -> VolumeHandle:
    """Return the handle that `str(VolumeHandle)` wrote as this volume_id.

    Raises:
        NotFound: the text has another form, so it names no volume of this driver.
    """
    parts = _parts(text, re.compile(_VERSION), CLUSTER_ID, _POOL_ID, NAMESPACE, _IMAGE_ID)
    if parts is None:
        raise errors.NotFound(
            f"volume {text[:MAX_BYTES]!r} does not exist: a volume_id of this driver reads "
            f"{_VERSION}:clusterID:pool-number:namespace:image-id"
        )
    return _volume_handle(parts[1:])


def parse_snapshot(text: str) -> SnapshotHandle:
    """Return the handle that `str(SnapshotHandle)` wrote as this snapshot_id.

    Raises:
        NotFound: the text has another form, so it names no snapshot of this driver.
    """
    version = re.compile(_SNAPSHOT_VERSION)
    parts = _parts(text, version, CLUSTER_ID, _POOL_ID, NAMESPACE, _IMAGE_ID, _SNAP_ID)
    if parts is None:
        raise errors.NotFound(
            f"snapshot {text[:MAX_BYTES]!r} does not exist: a snapshot_id of this driver reads "
            f"{_SNAPSHOT_VERSION}:clusterID:pool-number:namespace:image-id:snapshot-number"
        )
    return SnapshotHandle(_volume_handle(parts[1:-1]), int(parts[-1]))


def is_snapshot(text: str) -> bool:
    """Return whether the text has the form of a snapshot_id, not of a volume_id."""
    return text.startswith(f"{_SNAPSHOT_VERSION}:")


def parse_group(text: str) -> GroupHandle:
    """Return the handle that `str(GroupHandle)` wrote as this group_snapshot_id.

    Raises:
        NotFound: the text has another form, so it names no group snapshot of this driver.
    """
    parts = _parts(text, re.compile(_GROUP_VERSION), CLUSTER_ID, _TOKEN)
    if parts is None:
        raise errors.NotFound(
            f"group snapshot {text[:MAX_BYTES]!r} does not exist: a group_snapshot_id of this "
            f"driver reads {_GROUP_VERSION}:clusterID:token"
        )
    return GroupHandle(*parts[1:])


def _parts(text: str, *grammar: re.Pattern[str]) -> list[str] | None:
    """Return the parts between colons, None if they are others than these."""
    parts = text.split(":") if len(text) <= MAX_BYTES else []
    fits = len(parts) == len(grammar) and all(map(re.Pattern.fullmatch, grammar, parts))
    return parts if fits else None


def _volume_handle(parts: list[str]) -> VolumeHandle:
    cluster_id, pool_id, namespace, image_id = parts
    return VolumeHandle(LocationId(cluster_id, int(pool_id), namespace), image_id)
