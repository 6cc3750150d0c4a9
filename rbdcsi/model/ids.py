"""Volume handles and locations: the image that a CSI volume_id names.

Only this module reads and writes volume_ids; every other module uses the parsed handle.
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


def parse(text: str) -> VolumeHandle:
    """Return the handle that `str(VolumeHandle)` wrote as this volume_id.

    Raises:
        NotFound: the text has another form, so it names no volume of this driver.
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
