"""Which Ceph client holds a device: known for certain, or not told at all."""

import dataclasses
from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.staging import client
from rbdcsi.staging.notes import Note

NODE, OTHER = "node-a", "node-b"
NOTE = Note("v1:c:1::102a", "fsid", 1, "fuse", "/staging", "", device="/dev/loop0")


def _attachment(address: str | None = None) -> Attachment:
    mode, now = AccessMode.MULTI_NODE_MULTI_WRITER, "2026-01-01T00:00:00+00:00"
    return Attachment(mode, False, 1, State.STAGED, now, address)


def _record(mine: str | None = None, theirs: str | None = None) -> VolumeRecord:
    attachments = {NODE: _attachment(mine), OTHER: _attachment(theirs)}
    return VolumeRecord(generation=1, attachments=attachments)


def _device(*, readonly: bool = False, reported: str | None = None) -> MappedDevice:
    return MappedDevice(
        Path("/dev/loop0"), "fuse", "fsid", 1, "", "102a", readonly=readonly, client=reported
    )


def _new(
    watching: set[str],
    before: set[str],
    record: VolumeRecord,
    *,
    readonly: bool = False,
    reported: str | None = None,
) -> str | None:
    device = _device(readonly=readonly, reported=reported)
    return client.client_of_new(device, record, watching, before)


def _existing(
    watching: set[str], mine: str | None, note: Note | None, *, reported: str | None = None
) -> str | None:
    device = _device(reported=reported)
    return client.client_of_existing(device, note, _attachment(mine), watching)


def test_kernel_tells_its_own() -> None:
    assert _new({"a", "b", "c"}, set(), _record(), reported="a") == "a"


def test_watcher_that_was_not_there_before_is_it() -> None:
    assert _new({"a", "x"}, {"x"}, _record()) == "a"


def test_watcher_of_an_attachment_is_not_it() -> None:
    assert _new({"a", "b", "c"}, set(), _record(mine="c", theirs="b")) == "a"


@pytest.mark.parametrize(
    ("watching", "before", "reported"),
    [
        ({"a", "x"}, set(), None),
        (set(), set(), None),
        ({"x"}, {"x"}, None),
        ({"x"}, set(), "a"),  # the kernel has mapped another image
    ],
)
def test_doubt_is_refused_and_nothing_guessed(
    watching: set[str], before: set[str], reported: str | None
) -> None:
    with pytest.raises(errors.Busy, match="do not show for certain") as refused:
        _new(watching, before, _record(), reported=reported)
    assert ", ".join(sorted(watching)) in str(refused.value)


def test_read_only_device_may_watch_nothing() -> None:
    assert _new(set(), set(), _record(), readonly=True) is None
    assert _new({"b"}, set(), _record(theirs="b"), readonly=True) is None
    assert _new(set(), set(), _record(), readonly=True, reported="a") == "a"


def test_read_only_device_that_is_watched_has_a_client() -> None:
    assert _new({"a"}, set(), _record(), readonly=True) == "a"


def test_existing_device_is_adopted_if_the_attachment_has_its_client() -> None:
    assert _existing({"a"}, "a", dataclasses.replace(NOTE, client="a")) == "a"
    assert _existing({"a"}, "a", NOTE, reported="a") == "a"


@pytest.mark.parametrize("mine", [None, "b"])
def test_client_that_the_attachment_does_not_have_is_not_adopted(mine: str | None) -> None:
    assert _existing({"a"}, mine, dataclasses.replace(NOTE, client="a")) is None
    assert _existing({"a"}, mine, None, reported="a") is None


def test_mapping_that_was_cut_off_is_not_adopted() -> None:
    assert _existing({"a"}, "a", NOTE) is None


def test_device_of_an_older_driver_is_that_of_the_only_client_if_it_lives() -> None:
    assert _existing({"a", "x"}, "a", None) == "a"
    assert _existing({"x"}, "a", None) is None
    assert _existing({"a"}, None, None) is None


def test_read_only_device_without_a_client_goes_by_its_note() -> None:
    device = _device(readonly=True)
    assert client.is_of_generation(device, NOTE, 1)
    assert not client.is_of_generation(device, NOTE, 2)
    assert not client.is_of_generation(device, None, 1)
    assert not client.is_of_generation(_device(), NOTE, 1)
