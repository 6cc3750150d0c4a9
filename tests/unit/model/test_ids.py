import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import ids

LOCATIONS = st.builds(
    ids.LocationId,
    st.from_regex(ids.CLUSTER_ID, fullmatch=True),
    st.integers(0, 9_999_999_999),
    st.from_regex(ids.NAMESPACE, fullmatch=True),
)
HANDLES = st.builds(ids.VolumeHandle, LOCATIONS, st.from_regex(r"[0-9a-z]{1,24}", fullmatch=True))
SNAPSHOTS = st.builds(ids.SnapshotHandle, HANDLES, st.integers(1, 2**64 - 3))


@given(HANDLES)
def test_a_handle_is_read_as_it_was_written_and_fits_a_csi_string(
    handle: ids.VolumeHandle,
) -> None:
    text = str(handle)
    assert ids.parse(text) == handle
    assert len(text.encode()) <= ids.MAX_BYTES


@given(st.text() | HANDLES.map(str).flatmap(lambda text: st.sampled_from(_spoilt(text))))
@example("")
@example("v1:a:1::\n")
@example("v1:a:01::b")
@example("v1:a:1:../..:b")
@example("v1:a:\u0661::b")
@example("v2:a:1::b")
@example("v1:a:1::b\0")
def test_anything_else_names_no_volume(text: str) -> None:
    with pytest.raises(errors.NotFound, match="does not exist: a volume_id of this driver reads"):
        ids.parse(text)


@given(SNAPSHOTS)
def test_a_snapshot_handle_is_read_as_it_was_written(handle: ids.SnapshotHandle) -> None:
    text = str(handle)
    assume(len(text) <= ids.MAX_BYTES)
    assert ids.parse_snapshot(text) == handle
    with pytest.raises(errors.NotFound):
        ids.parse(text)


@given(st.text() | SNAPSHOTS.map(str).flatmap(lambda text: st.sampled_from(_spoilt(text))))
@example("")
@example("s1:a:1::b:0")
@example("s1:a:1::b:01")
@example("s1:a:1::b:-1")
@example("s1:a:1::b:1\n")
@example("s1:a:1::b:\u0661")
@example("s1:a:1::b")
@example("v1:a:1::b")
@example("v1:a:1::b:1")
@example("s2:a:1::b:1")
def test_anything_else_names_no_snapshot(text: str) -> None:
    message = "does not exist: a snapshot_id of this driver reads"
    with pytest.raises(errors.NotFound, match=message):
        ids.parse_snapshot(text)


def _spoilt(text: str) -> list[str]:
    long = f"{text}{'0' * ids.MAX_BYTES}"
    return [text[1:], f"{text}:", f"{text}/", f" {text}", f"{text}\n", f"-{text}", f"v{text}", long]
