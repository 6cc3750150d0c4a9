"""The name of an image: the object `rbd_id.NAME` and an entry in the directory, each with its id.

librbd removes both by the name alone, which a newer image may have by now. Here, the OSD checks
the id in the same operation that changes something. So a repeat, also a concurrent one, is safe.
"""

import contextlib

import rados

from rbdcsi.ceph import ceph_errors, objects, omap
from rbdcsi.runtime.futures import Future

_DIFFERS_AT_ONCE = 4095  # cmpext's answer on the first byte, also of an object that is missing


def begin_listed_id(ioctx: rados.Ioctx, name: str) -> Future[str | None]:
    """Begin to read the id that the directory has for that name, None if it has none."""
    reading = omap.begin_read(ioctx, objects.DIRECTORY, f"name_{name}")
    return reading.then(lambda value: None if value is None else objects.text(value))


def remove(ioctx: rados.Ioctx, name: str, image_id: str) -> None:
    """Remove the object and the entry, each only if it leads from this name to this image.

    Args:
        ioctx: the location of the image.
        name: the image's name.
        image_id: the image's id.
    """
    with ceph_errors.translated("removing the name of image", name):
        _remove_object(ioctx, name, image_id)
        with contextlib.suppress(rados.ObjectNotFound), rados.WriteOpCtx() as op:
            entry = objects.counted(name) + objects.counted(image_id)
            op.execute("rbd", "dir_remove_image", entry)
            ioctx.operate_write_op(op, objects.DIRECTORY)


def _remove_object(ioctx: rados.Ioctx, name: str, image_id: str) -> None:
    try:
        with rados.WriteOpCtx() as op:
            op.cmpext(objects.counted(image_id))
            op.remove()
            ioctx.operate_write_op(op, objects.ID + name)
    except (rados.ObjectNotFound, rados.ExtendMismatch):
        pass
    except rados.OSError as error:
        if abs(ceph_errors.errno_of(error)) != _DIFFERS_AT_ONCE:
            raise
