import json
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.config.secret import Secret
from rbdcsi.host.mappers import nbd, state_dir
from rbdcsi.host.mappers.interface import Access, Image

IMAGE = Image("fsid", 1, "volumes", "", "image-id", "image")
ACCESS = Access("127.0.0.1", "node", Secret("c2VjcmV0"))
RECORD = state_dir.Record(IMAGE, readonly=False)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b'{"version": 9}', b"[" * 100_000])
def test_damaged_record_is_skipped_and_the_others_are_listed(tmp_path: Path, text: bytes) -> None:
    states = state_dir.StateDirectories(tmp_path)
    directory = states.create(RECORD)
    damaged = tmp_path / "0"
    damaged.mkdir()
    (damaged / "image.json").write_bytes(text)

    assert list(states.records()) == [(directory, RECORD)]
    with pytest.raises(errors.Failed, match=r"0/image\.json"):
        states.require_intact(damaged)


def test_what_is_no_record_is_skipped(tmp_path: Path) -> None:
    states = state_dir.StateDirectories(tmp_path)
    directory = states.create(RECORD)
    (tmp_path / "0" / "image.json").mkdir(parents=True)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").touch()

    assert list(states.records()) == [(directory, RECORD)]
    states.require_intact(tmp_path / "1")
    with pytest.raises(errors.Failed, match=r"0/image\.json"):
        states.require_intact(tmp_path / "0")


def test_directory_that_goes_while_others_are_listed_is_skipped(tmp_path: Path) -> None:
    states = state_dir.StateDirectories(tmp_path)
    for number in range(2):
        states.create(state_dir.Record(Image("fsid", number, "p", "", "id", "image"), False))
    listing = states.records()
    first, _record = next(listing)
    for directory in tmp_path.iterdir():
        if directory != first:
            states.remove(directory)

    assert list(listing) == []


def test_nbd_forgets_no_image_whose_record_is_damaged(tmp_path: Path) -> None:
    mapper = nbd.Nbd(tmp_path)
    states = state_dir.StateDirectories(tmp_path)
    record = states.create(RECORD) / "image.json"
    device = RECORD.device("nbd", Path("/dev/nbd0"), None)
    record.write_text(json.dumps({"version": 1}))

    with pytest.raises(errors.Failed, match=r"image\.json"):
        mapper.unmap(device, seconds=5)
    with pytest.raises(errors.Failed, match=r"image\.json"):
        mapper.map(IMAGE, ACCESS, readonly=False, options="", seconds=5)
    assert record.exists()


def test_nbd_keeps_nothing_of_an_image_whose_name_it_cannot_map(tmp_path: Path) -> None:
    mapper = nbd.Nbd(tmp_path)
    odd = Image("fsid", 1, "volumes", "", "image-id", "image@1")

    with pytest.raises(errors.InvalidRequest, match="image@1"):
        mapper.map(odd, ACCESS, readonly=False, options="", seconds=5)
    assert list(tmp_path.iterdir()) == []
