"""Flattening and rolling back are right though the object map is not that of the objects."""

import struct

import pytest
import rados
import rbd

from e2e import volume
from e2e.volume import MIB
from rbdcsi.ceph import cloning, rollback
from tests.integration.node.lab import Lab

pytestmark = pytest.mark.usefixtures("nothing_left")

_MISSING, _EXISTS = 0, 1  # OBJECT_NONEXISTENT, OBJECT_EXISTS
_OBJECT = 4 * MIB


def _note(lab: Lab, image_id: str, number: int, state: int) -> None:
    """Change an object's state in the map."""
    argument = struct.pack("<QQBB", number, number + 1, state, False)
    with rados.WriteOpCtx() as op:
        op.execute("rbd", "object_map_update", argument)
        lab.ioctx.operate_write_op(op, f"rbd_object_map.{image_id}")


def test_an_object_that_only_the_map_has_is_copied(lab: Lab) -> None:
    with lab.volume("source", capability=volume.raw()) as source:
        lab.write(source, b"of the parent", 5 * _OBJECT)
        with lab.volume("copy", capability=volume.raw(), source=source.id) as copy:
            before, image_id = lab.checksum(copy), lab.image_id(copy)
            _note(lab, image_id, 5, _EXISTS)  # as a client does before it writes the object
            cloning.flatten(lab.ioctx, image_id, frozenset(), lambda: False, lambda: True)
            with lab.image(copy, readonly=True) as image:
                with pytest.raises(rbd.ImageNotFound):
                    image.parent_info()
                assert image.read(5 * _OBJECT, 13) == b"of the parent"
                assert image.flags() == 0
            assert lab.checksum(copy) == before


def test_the_map_is_valid_after_a_flattening_that_was_broken_off(lab: Lab) -> None:
    with lab.volume("source", capability=volume.raw()) as source:
        lab.write(source, b"of the parent", 5 * _OBJECT)
        with lab.volume("copy", capability=volume.raw(), source=source.id) as copy:
            image_id = lab.image_id(copy)
            assert not cloning.flatten(lab.ioctx, image_id, frozenset(), lambda: True, lambda: True)
            with lab.image(copy, readonly=True) as image:
                assert image.parent_info()
                assert image.flags() == 0


def test_a_copy_without_a_map_is_flattened(lab: Lab) -> None:
    without = {"imageFeatures": "layering"}
    with lab.volume("source", capability=volume.raw()) as source:
        lab.write(source, b"of the parent", 5 * _OBJECT)
        with lab.volume(
            "copy", capability=volume.raw(), source=source.id, parameters=without
        ) as copy:
            image_id = lab.image_id(copy)
            cloning.flatten(lab.ioctx, image_id, frozenset(), lambda: False, lambda: True)
            with lab.image(copy, readonly=True) as image:
                assert image.read(5 * _OBJECT, 13) == b"of the parent"


def test_an_object_that_the_map_lacks_is_rolled_back(lab: Lab) -> None:
    with lab.volume("rolled-back", capability=volume.raw()) as made:
        image_id, before = lab.image_id(made), lab.checksum(made)
        with lab.image(made) as image:
            image.create_snap("s")
            snap_id = image.snap_get_id("s")
        lab.write(made, b"written since", 5 * _OBJECT)
        _note(lab, image_id, 5, _MISSING)  # as a rollback that was cut off has left it
        with rollback.opened(lab.ioctx, image_id) as changing:
            changing.lock()
            changing.roll_back(snap_id, 64 * MIB)
        assert lab.checksum(made) == before
        with lab.image(made) as image:
            assert image.flags() == 0
            image.remove_snap("s")
