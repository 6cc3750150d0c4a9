import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rbdcsi import errors, handles

LOCATIONS = st.builds(
    handles.Location,
    st.from_regex(handles.CLUSTER_ID, fullmatch=True),
    st.integers(0, 9_999_999_999),
    st.from_regex(handles.NAMESPACE, fullmatch=True),
)
HANDLES = st.builds(
    handles.VolumeHandle, LOCATIONS, st.from_regex(r"[0-9a-z]{1,24}", fullmatch=True)
)
PREFIXES = st.from_regex(handles.NAME_PREFIX, fullmatch=True)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
TAME = st.from_regex(r"[A-Za-z0-9._-]{1,140}", fullmatch=True)


@given(HANDLES)
def test_a_handle_is_read_as_it_was_written_and_fits_a_csi_string(
    handle: handles.VolumeHandle,
) -> None:
    text = str(handle)
    assert handles.parse(text) == handle
    assert len(text.encode()) <= handles.MAX_BYTES


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
        handles.parse(text)


def _spoilt(text: str) -> list[str]:
    long = f"{text}{'0' * handles.MAX_BYTES}"
    return [text[1:], f"{text}:", f"{text}/", f" {text}", f"{text}\n", f"-{text}", f"v{text}", long]


@given(PREFIXES, NAMES | TAME, NAMES | TAME)
@example("csi-", "a", "sha256." + hashlib.sha256(b"a").hexdigest())
@example("csi-", "é", "sha256." + hashlib.sha256("é".encode()).hexdigest())
@example("csi-", "e\u0301", "\u00e9")
@example("csi-", "x" * 128, "x" * 129)
@example("csi-", "a", "a\n")
def test_two_names_never_share_an_image(prefix: str, one: str, other: str) -> None:
    same = handles.image_name(prefix, one) == handles.image_name(prefix, other)
    assert same == (one == other)


@given(PREFIXES, NAMES)
@example("csi-", "a/b@c")
@example("csi-", "👍\n" * 500)
def test_an_image_name_is_short_ascii_without_the_signs_of_an_image_spec(
    prefix: str, name: str
) -> None:
    made = handles.image_name(prefix, name)
    assert made.startswith(prefix)
    assert made.isascii()
    assert made.isprintable()
    assert not set("/@ ") & set(made)
    assert len(made) <= 160


def test_a_name_as_kubernetes_gives_it_stays_readable() -> None:
    assert handles.image_name("csi-", "pvc-0a1b") == "csi-pvc-0a1b"
