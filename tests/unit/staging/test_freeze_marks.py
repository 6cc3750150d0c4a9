"""Marks of what may be frozen: there until they are removed, and locked while a child has them."""

import os
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.model import ids
from rbdcsi.staging.freeze_marks import FreezeMark, FreezeMarks

HANDLE = ids.parse("v1:c.d:7:ns:1a")


def test_a_mark_is_read_until_it_is_removed(tmp_path: Path) -> None:
    marks = FreezeMarks(tmp_path / "frozen")
    with marks.read(HANDLE) as mark:
        assert mark is None
    for device in ("/dev/rbd0", "/dev/rbd1"):
        with marks.write(HANDLE, Path(device)):
            pass
        assert FreezeMarks(tmp_path / "frozen").all() == [HANDLE]
        with marks.read(HANDLE) as mark:
            assert mark == FreezeMark(str(HANDLE), device)
    for _ in range(2):
        marks.remove(HANDLE)
        assert marks.all() == []


def test_a_mark_is_locked_until_the_last_descriptor_is_closed(tmp_path: Path) -> None:
    marks = FreezeMarks(tmp_path)
    with marks.write(HANDLE, Path("/dev/rbd0")) as fd:
        childs = os.dup(fd)
    with pytest.raises(errors.Busy, match="is frozen for a snapshot"), marks.read(HANDLE):
        pass
    assert marks.all() == [HANDLE]
    os.close(childs)
    with marks.read(HANDLE) as mark:
        assert mark


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    marks = FreezeMarks(tmp_path)
    (tmp_path / f"{HANDLE}.json").write_text("{")
    with pytest.raises(errors.Failed, match="fsfreeze --unfreeze"), marks.read(HANDLE):
        pass
