"""Which Ceph client holds a device: known for certain, or not told at all."""

from pathlib import Path

import pytest

from rbdcsi import errors
from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.staging import client

NODE, OTHER = "node-a", "node-b"


def _record(mine: str | None = None, theirs: str | None = None) -> VolumeRecord:
    def held(client: str | None) -> Attachment:
        mode, now = AccessMode.MULTI_NODE_MULTI_WRITER, "2026-01-01T00:00:00+00:00"
        return Attachment(mode, False, 1, State.STAGED, now, client)

    return VolumeRecord(generation=1, attachments={NODE: held(mine), OTHER: held(theirs)})


def _client(
    watching: set[str],
    before: set[str] | None,
    record: VolumeRecord,
    *,
    readonly: bool = False,
    known: str | None = None,
) -> str | None:
    mapped = MappedDevice(
        Path("/dev/loop0"), "fuse", "fsid", 1, "", "102a", readonly=readonly, client=known
    )
    seen = None if before is None else frozenset(before)
    return client.client_of(mapped, NODE, record, lambda: frozenset(watching), seen)


def test_kernel_tells_its_own() -> None:
    assert _client({"b", "c"}, set(), _record(), known="a") == "a"


def test_watcher_that_was_not_there_before_is_it() -> None:
    assert _client({"a", "x"}, {"x"}, _record()) == "a"


def test_watcher_of_another_attachment_is_not_it() -> None:
    assert _client({"a", "b"}, set(), _record(theirs="b")) == "a"


def test_adopted_device_is_the_client_of_this_attachment() -> None:
    assert _client({"a", "x"}, None, _record(mine="a")) == "a"


def test_adopted_device_that_was_never_recorded_is_the_one_nobody_accounts_for() -> None:
    assert _client({"a", "b"}, None, _record(mine="gone", theirs="b")) == "a"


@pytest.mark.parametrize(
    ("watching", "before"),
    [({"a", "x"}, set()), ({"a", "x"}, None), (set(), set()), ({"x"}, {"x"})],
)
def test_doubt_is_refused_and_nothing_guessed(watching: set[str], before: set[str] | None) -> None:
    with pytest.raises(errors.Busy, match="it is not known which one holds") as refused:
        _client(watching, before, _record())
    assert ", ".join(sorted(watching)) in str(refused.value)


def test_read_only_device_may_have_no_watcher() -> None:
    assert _client(set(), set(), _record(), readonly=True) is None
    assert _client({"b"}, set(), _record(theirs="b"), readonly=True) is None


def test_read_only_device_that_is_watched_has_a_client() -> None:
    assert _client({"a"}, set(), _record(), readonly=True) == "a"
