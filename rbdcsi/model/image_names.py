"""Image names: the image of a new volume is named by the CSI name alone.

Two CSI names never share an image, so the name is the idempotency key of CreateVolume.
"""

import hashlib
import re

NAME_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HASHED = "sha256."


def image_name(prefix: str, name: str) -> str:
    """Return the image's name for a CSI name: readable where it can be, else hashed in full.

    A name that only looks hashed is hashed again, so no two CSI names share an image.
    """
    if _PLAIN_NAME.fullmatch(name) and not name.startswith(_HASHED):
        return prefix + name
    return prefix + _HASHED + hashlib.sha256(name.encode()).hexdigest()
