"""The traces that ceph-csi keeps of its volumes: read, so that they are recognised, never changed.

An image is named by a prefix and a UUID. Beside it, in the same pool and RADOS namespace, is the
object `csi.volume.UUID`, whose omap has the name of the PersistentVolume and, if the volume is
encrypted, of the key management. The image's metadata says, too, whether a block device is
encrypted. (ceph-csi: internal/journal/voljournal.go, internal/rbd/encryption.go)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import rados

from rbdcsi.ceph import omap

_IMAGE = re.compile(r".+-(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_OBJECT = "csi.volume."
_NAME = "csi.volname"
_KEY_MANAGEMENT = "csi.volume.encryptKMS"
_ENCRYPTED = ("rbd.csi.ceph.com/encrypted", ".rbd.csi.ceph.com/encrypted")


@dataclass(frozen=True)
class Traces:
    """A volume of ceph-csi: the name of its PersistentVolume, and whether it is encrypted."""

    volume_name: str
    encrypted: bool


def read(ioctx: rados.Ioctx, image: str) -> Traces | None:
    """Return the traces of the image of that name, None if it is no volume of ceph-csi.

    Args:
        ioctx: the location of the image.
        image: the image's name.
    """
    match = _IMAGE.fullmatch(image)
    if match is None:
        return None
    facts = dict(omap.Omap(ioctx, _OBJECT + match["uuid"]).items())
    name = facts.get(_NAME)
    return None if name is None else Traces(name, _KEY_MANAGEMENT in facts)


def is_encrypted(metadata: Mapping[str, str]) -> bool:
    """Return whether an image's metadata says that ceph-csi has encrypted it, or is about to."""
    return any(metadata.get(key, "").strip() for key in _ENCRYPTED)
