"""Volume handles and locations: which image a CSI volume_id means.

Only this module knows how a volume_id is written; every other module takes the parsed handle.
"""

import re
from dataclasses import dataclass

from rbdcsi import errors

MAX_BYTES = 128  # CSI spec, "Size Limits": the longest string a plugin may return

CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
NAMESPACE = re.compile(r"[A-Za-z0-9._-]{0,48}")
_POOL_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_IMAGE_ID = re.compile(r"[0-9a-z]{1,24}")  # librbd: hexadecimal digits; rbd CLI may set others

_VERSION = "v1"


@dataclass(frozen=True, order=True)
class LocationId:
    """Where an image lives: a cluster by its clusterID, a pool by its number, a RADOS namespace."""

    cluster_id: str
    pool_id: int
    namespace: str


@dataclass(frozen=True)
class VolumeHandle:
    """A volume's identity: its location and the image's id, which outlives a rename."""

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


def parse(text: str) -> VolumeHandle:
    """Read a volume_id as `str(VolumeHandle)` wrote it.

    Raises:
        NotFound: anything else; what is no handle of ours names no volume of ours.
    """
    parts = text.split(":") if len(text) <= MAX_BYTES else []
    grammar = (re.compile(_VERSION), CLUSTER_ID, _POOL_ID, NAMESPACE, _IMAGE_ID)
    if len(parts) != len(grammar) or not all(
        rule.fullmatch(part) for rule, part in zip(grammar, parts, strict=True)
    ):
        raise errors.NotFound(
            f"volume {text[:MAX_BYTES]!r} does not exist: a volume_id of this driver reads "
            f"{_VERSION}:clusterID:pool-number:namespace:image-id"
        )
    _, cluster_id, pool_id, namespace, image_id = parts
    return VolumeHandle(LocationId(cluster_id, int(pool_id), namespace), image_id)
