"""Clones of images (format v2), as librbd makes, detaches and removes them.

librbd finds the source by its names, so the caller compares the clone's parent with the ids that it
meant. librbd copies all metadata of the source into the clone as its last step: until `clone`
returns, whatever another process writes into the clone's metadata may be overwritten. So a clone is
made under a name of its own, and gets its final name when it is finished.
"""

import contextlib
import errno
from collections.abc import Callable

import rados
import rbd

from rbdcsi import errors
from rbdcsi.ceph import ceph_errors, changes, names, object_map
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.open_image import OpenImage
from rbdcsi.ceph.writers import require_answers
from rbdcsi.model import image_layout
from rbdcsi.model.image_layout import Layout

_RBD = rbd.RBD()


def clone(
    source: rados.Ioctx, image: str, snapshot: str, target: rados.Ioctx, name: str, layout: Layout
) -> None:
    """Make a clone of a snapshot.

    Args:
        source: the location of the source.
        image: the name of the source image.
        snapshot: the name of its snapshot, in the namespace of user snapshots.
        target: the location of the clone.
        name: the name of the clone.
        layout: of the clone; it has `layering`.

    Raises:
        NotFound: no such image or snapshot, or it went meanwhile; nothing is left of the clone.
        AlreadyExists: an image of that name exists.
        Exhausted: pool or cluster is full.
        InvalidRequest: librbd cannot make such a clone.
    """
    with ceph_errors.translated("cloning image", f"{image}@{snapshot}"):
        _RBD.clone(
            source,
            image,
            snapshot,
            target,
            name,
            features=image_layout.mask(layout.features),
            order=layout.object_bytes.bit_length() - 1,
            # As in `Images.create`; by default, librbd takes the source's stripes, which may not
            # fit smaller objects.
            stripe_unit=layout.stripe_unit or layout.object_bytes,
            stripe_count=layout.stripe_count or 1,
            data_pool=layout.data_pool or target.get_pool_name(),
        )


def grow(ioctx: rados.Ioctx, image_id: str, size: int) -> None:
    """Resize an image to a larger size in bytes.

    Raises:
        NotFound: no such image.
    """
    doing = ceph_errors.translated("resizing image", image_id)
    with doing, rbd.Image(ioctx, image_id=image_id) as image:
        image.resize(size, allow_shrink=False)


def remove_unfinished(ioctx: rados.Ioctx, name: str) -> None:
    """Remove a clone that never got its final name, as far as it was made.

    The directory decides in one operation whether a clone is removed or gets its final name. After
    a renaming, only what is left of the first name goes. A repeat finishes a removal.

    Args:
        ioctx: the location of the clone.
        name: its first name, which nothing else ever has.

    Raises:
        Refused: a client has it open.
    """
    images, listed_id = Images(ioctx), names.begin_listed_id(ioctx, name).result()
    if listed_id:
        names.unlist(ioctx, name, listed_id)
    image_id = images.id_of(name)
    if image_id and images.name_of(image_id) is not None:
        names.remove(ioctx, name, image_id)
        return
    with (
        ceph_errors.translated("removing the unfinished clone", name),
        contextlib.suppress(rbd.ImageNotFound),
    ):
        _RBD.remove(ioctx, name)


def flatten(
    ioctx: rados.Ioctx,
    image_id: str,
    writers: frozenset[str],
    stopping: Callable[[], bool],
    at_last: Callable[[], bool],
) -> bool:
    """Copy into the clone what it still reads from its parent, and detach it from the parent.

    Clients that have the image mapped go on. It takes time by the size of the image, and is broken
    off if another caller of this process wants to change the image. The caller has claimed it, see
    flattening.py. The object map is invalid until this returns, see object_map.py.

    If a client of a node by librbd (rbd-nbd, qemu) has the image's lock, librbd asks that client to
    do it, which does not break off.

    Args:
        ioctx: the location of the clone.
        image_id: the clone.
        writers: the addresses of the clients by which nodes have the image mapped for writing.
        stopping: called now and then; if it returns True, the copying ends before its end.
        at_last: called when the last object is about to be copied; if it returns False, the copying
            ends before its end.

    Returns:
        False if it was broken off.

    Raises:
        NotFound: no such image.
        Busy: one of the writers does not answer.
    """

    def progress(_done: int, _total: int) -> int:
        return -errno.ECANCELED if stopping() or changes.is_wanted(image_id) else 0

    def progress_of_copying(done: int, total: int) -> int:
        code = progress(done, total)
        if code == 0 and done + 1 == total:
            try:
                return 0 if at_last() else -errno.ECANCELED
            except errors.RbdCsiError:
                return -errno.ECANCELED
        return code

    doing = ceph_errors.translated("flattening image", image_id)
    with doing, changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        require_answers(ioctx, OpenImage(image_id, image), image_id, writers)
        try:
            object_map.invalidate(ioctx, image)
            image.flatten(progress_of_copying)
        except rbd.OperationCanceled:
            return False
        finally:
            object_map.rebuild(image)
    return True


def mend_map(ioctx: rados.Ioctx, image_id: str, writers: frozenset[str]) -> None:
    """Rebuild the object map of an image whose flattening was cut off, if it is invalid.

    Args:
        ioctx: the location of the image.
        image_id: the image.
        writers: the addresses of the clients by which nodes have the image mapped for writing.

    Raises:
        NotFound: no such image, or no client can open it.
        Busy: one of the writers does not answer.
    """
    doing = ceph_errors.translated("rebuilding the object map of image", image_id)
    with doing, changes.turn(image_id), rbd.Image(ioctx, image_id=image_id) as image:
        require_answers(ioctx, OpenImage(image_id, image), image_id, writers)
        object_map.rebuild(image)
