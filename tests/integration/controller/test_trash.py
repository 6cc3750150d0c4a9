"""An image moves to the trash by its id: its name may be that of a newer image by now."""

import pytest
import rbd

from rbdcsi import errors
from rbdcsi.ceph import moves, trash
from rbdcsi.ceph.images import Images
from rbdcsi.model import image_layout
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 1 << 20
FEATURES = image_layout.mask(image_layout.DEFAULT)


def created(view: View, name: str) -> str:
    """Create an image and return its id."""
    rbd.RBD().create(view.ioctx, name, SIZE, old_format=False, features=FEATURES)
    with rbd.Image(view.ioctx, name, read_only=True) as image:
        return image.id()


def empty_trash(view: View) -> None:
    for image_id in view.trashed():
        rbd.RBD().trash_remove(view.ioctx, image_id)


def test_an_image_is_in_the_trash_as_librbd_would_have_put_it(view: View) -> None:
    created(view, "by-librbd")
    rbd.RBD().trash_move(view.ioctx, "by-librbd")
    image_id = created(view, "ours")
    moves.to_trash(view.ioctx, image_id, "ours")
    try:
        one, other = rbd.RBD().trash_list(view.ioctx)
        assert {one["name"], other["name"]} == {"ours", "by-librbd"}
        assert one["source"] == other["source"]
        assert view.images() == []
        with pytest.raises(errors.NotFound, match="in the trash already"):
            moves.to_trash(view.ioctx, image_id, "ours")
    finally:
        empty_trash(view)


def test_a_late_move_leaves_a_newer_image_of_that_name_alone(view: View) -> None:
    images = Images(view.ioctx)
    old = created(view, "again")
    moves.to_trash(view.ioctx, old, "again")
    new = created(view, "again")
    try:
        trash.move(view.ioctx, old, "again")  # of another controller that was stopped in it
        with pytest.raises(errors.NotFound):
            moves.to_trash(view.ioctx, old, "again")
        assert (images.id_of("again"), images.name_of(new)) == (new, "again")
        assert view.trashed() == [old]
    finally:
        empty_trash(view)
        rbd.RBD().remove(view.ioctx, "again")


def test_the_data_of_an_image_that_was_restored_is_kept(view: View) -> None:
    images, image_id = Images(view.ioctx), created(view, "restored")
    with rbd.Image(view.ioctx, "restored") as image:
        image.write(b"data", 0)
    moves.to_trash(view.ioctx, image_id, "restored")
    rbd.RBD().trash_restore(view.ioctx, image_id, "restored")
    with pytest.raises(errors.NotFound, match="in the trash no more"):
        images.empty_trashed(image_id, lambda: False)
    with rbd.Image(view.ioctx, "restored", read_only=True) as image:
        assert (image.size(), image.read(0, 4)) == (SIZE, b"data")
    rbd.RBD().remove(view.ioctx, "restored")


def test_an_image_is_not_restored_without_its_data(view: View) -> None:
    images, image_id = Images(view.ioctx), created(view, "emptied")
    moves.to_trash(view.ioctx, image_id, "emptied")
    with pytest.raises(errors.Busy, match="was stopped"):
        images.empty_trashed(image_id, lambda: True)
    with pytest.raises(rbd.ImageBusy):
        rbd.RBD().trash_restore(view.ioctx, image_id, "emptied")
    images.empty_trashed(image_id, lambda: False)
    images.remove_trashed(image_id, lambda: False)
    assert (view.trashed(), images.exists(image_id)) == ([], False)


def test_an_image_in_a_group_stays(view: View) -> None:
    image_id = created(view, "grouped")
    rbd.RBD().group_create(view.ioctx, "group")
    rbd.Group(view.ioctx, "group").add_image(view.ioctx, "grouped")
    try:
        with pytest.raises(errors.Failed, match="is in group group"):
            moves.to_trash(view.ioctx, image_id, "grouped")
        assert view.images() == ["grouped"]
    finally:
        rbd.Group(view.ioctx, "group").remove_image(view.ioctx, "grouped")
        rbd.RBD().group_remove(view.ioctx, "group")
        rbd.RBD().remove(view.ioctx, "grouped")
