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

_MIRRORING = "rbd_mirroring"  # the object with the mirrored images of a location


def to_trash(ioctx: rados.Ioctx, image_id: str, name: str) -> None:
    """Move the image to the trash; see `movable` and `MovableImage.to_trash`."""
    with movable(ioctx, image_id, name) as image:
        image.to_trash()


@contextlib.contextmanager
def movable(ioctx: rados.Ioctx, image_id: str, name: str) -> Iterator["MovableImage"]:
    """Keep other clients from moving or changing the image while the body moves it.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        name: its name.

    Raises:
        NotFound: no such image, or it is in the trash already.
        Refused: another client has locked it.
        Failed: it is in a group.
    """
    doing = f"taking away image {name}, whose id is"
    with contextlib.ExitStack() as stack:
        with ceph_errors.translated(doing, image_id):
            mirrored = _is_mirrored(ioctx, image_id)
            current = name if mirrored else stack.enter_context(_locked(ioctx, image_id, name))
        yield MovableImage(ioctx, image_id, current, mirrored=mirrored)


class MovableImage:
    """An image that no other client moves at this time, unless it is mirrored."""

    def __init__(self, ioctx: rados.Ioctx, image_id: str, name: str, *, mirrored: bool) -> None:
        self._ioctx = ioctx
        self._image_id = image_id
        self._name = name
        self._mirrored = mirrored

    def to_trash(self) -> None:
        """Move it to the trash: its name is free, clients that have it open keep its data.

        Raises:
            NotFound, Refused: see `movable`; only if the image is mirrored.
        """
        with ceph_errors.translated("moving to the trash image", self._name):
            if self._mirrored:
                rbd.RBD().trash_move(self._ioctx, self._name, 0)
            else:
                trash.move(self._ioctx, self._image_id, self._name)

    def set_aside(self, new_name: str) -> None:
        """Rename it: its name is free, and its snapshots stay of use; a repeat finishes it.

        librbd clones by the image's name, which an image in the trash has not got.

        Args:
            new_name: a name that only this image can have.

        Raises:
            NotFound, Refused: see `movable`; only if the image is mirrored.
        """
        with ceph_errors.translated("renaming image", self._name):
            if self._name == new_name:
                return
            if self._mirrored:
                rbd.RBD().rename(self._ioctx, self._name, new_name)
            else:
                names.free(self._ioctx, self._name, new_name, self._image_id)


def _is_mirrored(ioctx: rados.Ioctx, image_id: str) -> bool:
    return bool(omap.begin_read(ioctx, _MIRRORING, f"image_{image_id}").result())


@contextlib.contextmanager
def _locked(ioctx: rados.Ioctx, image_id: str, name: str) -> Iterator[str]:
    """Keep the image's lock for the body; yield its present name."""
    with changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        if group := image.group()["name"]:
            raise errors.Failed(f"image {name} is in group {group}; remove it from the group first")
        changes.lock(image)
        current = Images(ioctx).name_of(image_id)
        if current is None:
            raise errors.NotFound(f"image {name} is in the trash already")
        yield current
