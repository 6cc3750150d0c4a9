"""Takes the image of a deleted volume out of the way: into the trash, or under another name.

An image that another client has locked, or that is in a group, stays where it is. A mirrored image
is moved by librbd, which tells the other cluster.
"""

import contextlib
from collections.abc import Iterator

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes, names, omap, trash
from rbdcsi.ceph.images import Images
from rbdcsi.model.image_layout import BITS

_MIRRORING = "rbd_mirroring"  # the object with the mirrored images of a location


def to_trash(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Move the image to the trash: its name is free, clients that have it open keep its data.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: its name.

    Raises:
        NotFound: no such image, or it is in the trash already.
        Refused: another client has locked it.
        Failed: it is in a group.
    """
    with ceph_errors.translated("moving to the trash image", name):
        if _is_mirrored(ioctx, image_id):
            rbd.RBD().trash_move(ioctx, name, 0)
            return
        with _locked(ioctx, image_id, name) as current:
            trash.move(ioctx, image_id, current)


def set_aside(ioctx: rados.Ioctx, image_id: str, name: str, new_name: str) -> None:
    """Rename the image: its name is free, and its snapshots stay of use; a repeat finishes it.

    librbd clones by the image's name, which an image in the trash has not got.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: its name.
        new_name: a name that only this image can have.

    Raises:
        NotFound, Refused, Failed: see `to_trash`.
    """
    with ceph_errors.translated("renaming image", name):
        if _is_mirrored(ioctx, image_id):
            if name != new_name:
                rbd.RBD().rename(ioctx, name, new_name)
            return
        with _locked(ioctx, image_id, name) as current:
            if current != new_name:
                names.free(ioctx, current, new_name, image_id)


def _is_mirrored(ioctx: rados.Ioctx, image_id: str) -> bool:
    return bool(omap.begin_read(ioctx, _MIRRORING, f"image_{image_id}").result())


@contextlib.contextmanager
def _locked(ioctx: rados.Ioctx, image_id: str, name: str) -> Iterator[str]:
    """Keep the image's lock for the body; yield its present name."""
    with changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        if group := image.group()["name"]:
            raise errors.Failed(f"image {name} is in group {group}; remove it from the group first")
        if image.features() & BITS["exclusive-lock"]:
            image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
        current = Images(ioctx).name_of(image_id)
        if current is None:
            raise errors.NotFound(f"image {name} is in the trash already")
        yield current
