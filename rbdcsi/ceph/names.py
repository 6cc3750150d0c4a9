"""The name of an image: the object `rbd_id.NAME` and an entry in the directory, each with its id.

librbd removes both by the name alone, which a newer image may have by now. Here, the OSD checks
the id in the same operation that changes something. So a repeat, also a concurrent one, is safe.
"""

import contextlib
import errno

import rados

from rbdcsi.ceph import ceph_errors, objects, omap
from rbdcsi.runtime.futures import Future
from rbdcsi.telemetry import steps

_DIFFERS = -4095  # cmpext's answer, less the place where the object differs; or it is missing


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
        _begin_remove_object(ioctx, name, image_id).result()
    unlist(ioctx, name, image_id)


def unlist(ioctx: rados.Ioctx, name: str, image_id: str) -> None:
    """Remove the entry if it leads from this name to this image; see `remove`."""
    with (
        ceph_errors.translated("removing the entry of image", name),
        contextlib.suppress(rados.ObjectNotFound),
        rados.WriteOpCtx() as op,
    ):
        entry = objects.counted(name) + objects.counted(image_id)
        op.execute("rbd", "dir_remove_image", entry)
        ioctx.operate_write_op(op, objects.DIRECTORY)


def _begin_remove_object(ioctx: rados.Ioctx, name: str, image_id: str) -> Future[None]:
    """Begin to remove the name's object if it leads to this image; see `remove`."""
    with rados.WriteOpCtx() as op:
        op.cmpext(objects.counted(image_id))
        op.remove()
        completion = ioctx.operate_aio_write_op(op, objects.ID + name)

    def ended() -> None:
        completion.wait_for_complete()
        code = completion.get_return_value()
        if _DIFFERS < code < 0 and code != -errno.ENOENT:
            raise ceph_errors.from_errno(code, "", f"removing object {objects.ID}{name}")

    return Future(ended)


def rename(ioctx: rados.Ioctx, old: str, new: str, image_id: str) -> None:
    """Rename an image that nobody has open; `finish_rename` ends a renaming that was cut off.

    Args:
        ioctx: the location of the image.
        old: its name.
        new: its next name.
        image_id: the image's id.

    Raises:
        AlreadyExists: another image has the new name.
        NotFound: no image has the old name.
        Busy: another image has the old name.
    """
    with ceph_errors.translated("renaming image", old):
        _rename_entry(ioctx, old, new, image_id)
    steps.done("rename.entry", image=new)
    with ceph_errors.translated("renaming image", old):
        removing = _begin_remove_object(ioctx, old, image_id)
        finish_rename(ioctx, new, image_id)
        removing.result()


def finish_rename(ioctx: rados.Ioctx, new: str, image_id: str) -> None:
    """Let a name that the directory has for an image lead to it; a repeat changes nothing.

    Args:
        ioctx: the location of the image.
        new: the name.
        image_id: the image's id.

    Raises:
        AlreadyExists: the name leads to another image.
    """
    with ceph_errors.translated("naming image", new):
        try:
            with rados.WriteOpCtx() as op:
                op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
                op.write_full(objects.counted(image_id))
                ioctx.operate_write_op(op, objects.ID + new)
        except rados.ObjectExists:
            if ioctx.read(objects.ID + new) != objects.counted(image_id):
                raise


def free(ioctx: rados.Ioctx, name: str, new: str, image_id: str) -> None:
    """Give an image another name; a repeat, also a concurrent one, finishes it.

    The old name's object goes before the entry in the directory changes: by that entry, a repeat
    after a crash knows the old name.

    Args:
        ioctx: the location of the image.
        name: its name.
        new: its next name, which no other image can have.
        image_id: the image's id.

    Raises:
        NotFound: the image has neither name.
    """
    finish_rename(ioctx, new, image_id)
    with ceph_errors.translated("renaming image", name):
        _begin_remove_object(ioctx, name, image_id).result()
        try:
            _rename_entry(ioctx, name, new, image_id)
        except (rados.ObjectNotFound, rados.ObjectExists):
            if begin_listed_id(ioctx, new).result() != image_id:
                raise


def _rename_entry(ioctx: rados.Ioctx, old: str, new: str, image_id: str) -> None:
    with rados.WriteOpCtx() as op:
        argument = objects.counted(old) + objects.counted(new) + objects.counted(image_id)
        op.execute("rbd", "dir_rename_image", argument)
        ioctx.operate_write_op(op, objects.DIRECTORY)
