"""Notes of what this plugin mapped: kept whole, found again, and never about another's device."""

import dataclasses
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.staging.notes import Note, Notes

NOTE = Note("v1:c:7:ns:1a", "fsid", 3, "krbd", "/staging", "force", others=("x",))
DEVICE = MappedDevice(Path("/dev/rbd0"), "krbd", "fsid", 7, "ns", "1a", readonly=False, client="a")


def test_note_is_read_as_it_was_written_until_it_is_removed(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes")
    for note in (NOTE, NOTE.of_mapped(DEVICE, "a")):
        notes.write(note)
        assert Notes(tmp_path / "notes").read(NOTE.handle) == note
        assert list(notes.all()) == [note]
    for _ in range(2):
        notes.remove(NOTE.handle)
        assert notes.read(NOTE.handle) is None
    assert list(notes.all()) == []


def test_damaged_note_is_named_and_hides_no_other(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.write(NOTE)
    damaged = dataclasses.replace(NOTE, volume="v1:c:7:ns:1b")
    notes.write(damaged)
    (tmp_path / "v1:c:7:ns:1b.json").write_text('{"version"')
    with pytest.raises(errors.Failed, match=r"1b\.json.*damaged"):
        notes.read(damaged.handle)
    assert list(notes.all()) == [NOTE]


def test_device_of_another_program_is_not_the_notes() -> None:
    assert NOTE.is_about(DEVICE)
    assert not NOTE.is_about(dataclasses.replace(DEVICE, client="x"))
    known = NOTE.of_mapped(DEVICE, "a")
    assert known.is_about(DEVICE)
    assert not known.is_about(dataclasses.replace(DEVICE, client="b"))
