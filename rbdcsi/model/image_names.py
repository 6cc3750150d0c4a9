"""Image names: the name of a new image depends only on its prefix and the CSI name.

Two CSI names never share an image, so the name is the idempotency key of CreateVolume.
"""

import hashlib
import re

NAME_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HASHED = "sha256."
_DELETED = "rbdcsi.deleted."
_UUID_AT_END = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def image_name(prefix: str, name: str) -> str:
    """Return the image's name for a CSI name: the name itself if possible, otherwise its hash.

    A CSI name that looks like a hash is hashed, so no two CSI names share an image.
    """
    if _PLAIN_NAME.fullmatch(name) and not name.startswith(_HASHED):
        return prefix + name
    return prefix + _HASHED + hashlib.sha256(name.encode()).hexdigest()


def deleted_name(image_id: str) -> str:
    """Return the name that the image of a deleted volume has while snapshots of it are in use."""
    return _DELETED + image_id


def listed_prefix(image: str) -> str:
    """Return the prefix by which a location lists an image that the driver did not name.

    It is the name without a UUID at its end, as ceph-csi names images, otherwise the whole name.
    """
    return _UUID_AT_END.sub("", image) or image
