"""What librbd leaves of an image when it dies in its creation: created, then undone backwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import rados

from rbdcsi.ceph import objects
from rbdcsi.ceph.images import Images
from rbdcsi.model import storage_class
from rbdcsi.volumes import spec
from tests.integration.controller.view import View

JOURNAL = {"imageFeatures": "layering,exclusive-lock,object-map,fast-diff,journaling"}
STRIPES = {"stripeUnit": "64K", "stripeCount": "4"}
OBJECT_MAP, HEADER, NAME = "rbd_object_map.ID", "rbd_header.ID", "rbd_id.NAME"
STRIPE_KEYS = {HEADER: ("stripe_unit", "stripe_count")}


@dataclass(frozen=True)
class Rest:
    """The rest of a creation: how the image was asked for, and what is not there of it."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listed: bool = True


# By what is missing first.
RESTS = {
    "name object": Rest(objects=(OBJECT_MAP, HEADER, NAME)),
    "directory, as older versions": Rest(objects=(OBJECT_MAP, HEADER), listed=False),
    "header": Rest(objects=(OBJECT_MAP, HEADER)),
    "header, in a removal": Rest(objects=(HEADER,)),
    "header, in a removal with a journal": Rest(JOURNAL, (HEADER,)),
    "stripes": Rest(STRIPES, (OBJECT_MAP,), STRIPE_KEYS),
    "stripes, and no object map asked for": Rest(
        {**STRIPES, "imageFeatures": "layering"}, keys=STRIPE_KEYS
    ),
    "object map": Rest(objects=(OBJECT_MAP,)),
    "object map, after the stripes": Rest(STRIPES, (OBJECT_MAP,)),
    "journal": Rest(JOURNAL, ("journal.ID",)),
    "tag of the journal": Rest(JOURNAL, keys={"journal.ID": ("client_", f"tag_{0:016}")}),
    "client of the journal": Rest(JOURNAL, keys={"journal.ID": ("client_",)}),
}


def leave(view: View, name: str, size: int, rest: Rest) -> str:
    """Leave that rest of an image of that name; return the image's id."""
    images = Images(view.ioctx)
    layout = spec.from_request(name, None, storage_class.parse(rest.parameters)).layout
    images.create(name, size, layout)
    image_id = images.id_of(name)
    assert image_id

    def full(pattern: str) -> str:
        return pattern.replace("ID", image_id).replace("NAME", name)

    for pattern, keys in rest.keys.items():
        with rados.WriteOpCtx() as operation:
            view.ioctx.remove_omap_keys(operation, keys)
            view.ioctx.operate_write_op(operation, full(pattern))
    for pattern in rest.objects:
        view.ioctx.remove_object(full(pattern))
    if not rest.listed:
        execute(view, "dir_remove_image", objects.counted(name) + objects.counted(image_id))
    return image_id


def execute(view: View, method: str, argument: bytes, on: str = objects.DIRECTORY) -> None:
    """Run one of RBD's methods on an object."""
    with rados.WriteOpCtx() as operation:
        operation.execute("rbd", method, argument)
        view.ioctx.operate_write_op(operation, on)
