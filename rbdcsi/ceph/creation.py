"""How far the creation of an image came, and the removal of one that was cut off.

librbd creates an image by these operations (Ceph source: src/librbd/image/CreateRequest.cc); it
checks the pool and the features before and between them, which leaves nothing of the image:

1. the entry in the directory, then the name's object; older versions the other way round
2. the header: size, features, data pool
3. the stripes, in the header
4. the object map
5. the journal: its object, its tag, its client
6. the record of mirroring, if the pool mirrors every image that has a journal
"""

import contextlib
from dataclasses import dataclass

import rados

from rbdcsi.ceph import ceph_errors, names, objects, omap, trash
from rbdcsi.ceph.images import Images
from rbdcsi.model.image_layout import BITS

_OBJECT_MAP = "rbd_object_map."
_JOURNAL = "journal."
_JOURNAL_CLIENT = "client_"  # librbd's own client id is empty
_MIRRORING = "rbd_mirroring"
_MIRROR_EVERY_IMAGE = 2  # cls::rbd::MIRROR_MODE_POOL
_EQUAL = 1  # LIBRADOS_CMPXATTR_OP_EQ


@dataclass(frozen=True)
class Traces:
    """What Ceph has under the name of an image.

    `listed_id` is the directory's, `named_id` the one of the name's object. `mirroring` is False
    if the pool mirrors every image that has a journal, and has no record of this one.
    """

    listed_id: str | None = None
    named_id: str | None = None
    header: objects.Header | None = None
    object_map: bool = False
    journal: bool = False
    mirroring: bool = True
    trashed: bool = False

    @property
    def image_id(self) -> str | None:
        """The image's id, None if Ceph has nothing under the name."""
        return self.named_id or self.listed_id


def missing(traces: Traces) -> str | None:
    """Return the first thing that the creation has still to write, None if it is finished."""
    if traces.header is None:
        return "header"
    features = traces.header.features
    with_journal = features & BITS["journaling"]
    if features & BITS["striping"] and not (
        traces.header.stripe_unit and traces.header.stripe_count
    ):
        return "stripes"
    if features & BITS["object-map"] and not traces.object_map:
        return "object map"
    if with_journal and not traces.journal:
        return "journal"
    if with_journal and not traces.mirroring:
        return "record of mirroring"
    return None


def contradiction(traces: Traces) -> str | None:
    """Return what no creation leaves, wherever it is cut off, None if there is no such thing."""
    listed_id, named_id = traces.listed_id, traces.named_id
    if traces.trashed:
        return "it is in the trash, too"
    if listed_id and named_id and listed_id != named_id:
        return f"its name leads to {named_id}, the directory to {listed_id}"
    if traces.header and not listed_id:
        return f"image {named_id} has a header, but no entry in {objects.DIRECTORY}"
    if traces.header and not named_id:
        return f"image {listed_id} has a header, but no object {objects.ID}NAME"
    return None


def read(ioctx: rados.Ioctx, name: str) -> Traces:
    """Return what Ceph has under that name."""
    reading_listed_id = names.begin_listed_id(ioctx, name)
    images = Images(ioctx)
    named_id = images.id_of(name)
    listed_id = reading_listed_id.result()
    image_id = named_id or listed_id
    if image_id is None:
        return Traces()
    reading_entry = trash.begin_entry(ioctx, image_id)
    reading_client = omap.begin_read(ioctx, _JOURNAL + image_id, _JOURNAL_CLIENT)
    reading_mode = omap.begin_read(ioctx, _MIRRORING, "mirror_mode")
    reading_record = omap.begin_read(ioctx, _MIRRORING, f"image_{image_id}")
    mirrors_every_image = (reading_mode.result() or b"")[:1] == bytes((_MIRROR_EVERY_IMAGE,))
    return Traces(
        listed_id=listed_id,
        named_id=named_id,
        header=images.header(image_id),
        object_map=_exists(ioctx, _OBJECT_MAP + image_id),
        journal=reading_client.result() is not None,
        mirroring=reading_record.result() is not None or not mirrors_every_image,
        trashed=reading_entry.result() is not None,
    )


def remove(ioctx: rados.Ioctx, name: str, image_id: str, *, unless: str) -> bool:
    """Remove an image that has no data, as far as it was created; a repeat finishes a removal.

    The name goes last, for it leads to what is left.

    Args:
        ioctx: where the image is.
        name: the image's name.
        image_id: the image's id.
        unless: the key of image metadata that an image in use has.

    Returns:
        False, with nothing removed, if the image has that metadata.
    """
    with ceph_errors.translated("removing the unfinished image", name):
        try:
            with contextlib.suppress(rados.ObjectNotFound), rados.WriteOpCtx() as op:
                op.omap_cmp(objects.metadata_key(unless), "", _EQUAL)
                op.remove()
                ioctx.operate_write_op(op, objects.HEADER + image_id)
        except rados.OSError as error:
            if ceph_errors.compared_unequal(error):
                return False
            raise
        for prefix in (_JOURNAL, _OBJECT_MAP):
            with contextlib.suppress(rados.ObjectNotFound):
                ioctx.remove_object(prefix + image_id)
    names.remove(ioctx, name, image_id)
    return True


def _exists(ioctx: rados.Ioctx, name: str) -> bool:
    with ceph_errors.translated("looking for object", name):
        try:
            ioctx.stat(name)
        except rados.ObjectNotFound:
            return False
    return True
