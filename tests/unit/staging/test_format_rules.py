"""The rule of never destroying, as the table in docs/architecture.md has it, cell by cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.host.fs import filesystems
from rbdcsi.staging import format
from rbdcsi.staging.format import Action, Mark, Phase

BLANK = signature.Blank()
UNKNOWN = signature.Signature(signature.UNKNOWN)
EXT4, XFS = signature.Signature("ext4", "some-uuid"), signature.Signature("xfs")
FORMATTING, FORMATTED = Mark(Phase.FORMATTING, "ext4"), Mark(Phase.FORMATTED, "ext4")

TYPES = st.sampled_from(filesystems.FS_TYPES)
MARKS = st.none() | st.builds(Mark, st.sampled_from(Phase), TYPES)
STRANGE = st.sampled_from([signature.UNKNOWN, "crypto_LUKS", "dos", "LVM2_member"])
FOUND = st.just(BLANK) | st.builds(signature.Signature, TYPES | STRANGE)

TABLE = [
    (None, BLANK, Action.MAKE),
    (None, EXT4, None),
    (None, UNKNOWN, None),
    (None, XFS, None),
    (FORMATTING, BLANK, Action.MAKE),
    (FORMATTING, EXT4, Action.MAKE_AGAIN),
    (FORMATTING, UNKNOWN, Action.MAKE_AGAIN),
    (FORMATTING, XFS, None),
    (FORMATTED, BLANK, None),
    (FORMATTED, EXT4, Action.MOUNT),
    (FORMATTED, UNKNOWN, None),
    (FORMATTED, XFS, None),
]


def _decide(
    mark: Mark | None,
    found: signature.Blank | signature.Signature,
    fs_type: str = "ext4",
    *,
    readonly: bool = False,
) -> Action | None:
    try:
        return format.decide(mark, found, fs_type, readonly=readonly, image="pool/image")
    except errors.Refused:
        return None


@pytest.mark.parametrize(("mark", "found", "action"), TABLE)
def test_each_cell_is_decided_as_the_table_says(
    mark: Mark | None, found: signature.Blank | signature.Signature, action: Action | None
) -> None:
    assert _decide(mark, found) is action


@given(FOUND, TYPES, st.booleans())
def test_an_image_made_by_hand_is_mounted_as_what_it_is_or_refused(
    found: signature.Blank | signature.Signature, fs_type: str, readonly: bool
) -> None:
    holds_it = isinstance(found, signature.Signature) and found.fs_type == fs_type

    def decide() -> Action:
        return format.decide(
            None, found, fs_type, readonly=readonly, image="pool/image", by_hand=True
        )

    if holds_it:
        assert decide() is Action.MOUNT
    else:
        with pytest.raises(errors.Refused, match="never formatted"):
            decide()


@given(MARKS, FOUND, TYPES, st.booleans())
def test_nothing_is_made_where_data_could_be(
    mark: Mark | None, found: signature.Blank | signature.Signature, fs_type: str, readonly: bool
) -> None:
    action = _decide(mark, found, fs_type, readonly=readonly)
    if action in {Action.MAKE, Action.MAKE_AGAIN}:
        assert not readonly
        begun_by_us = mark == Mark(Phase.FORMATTING, fs_type)
        assert begun_by_us or (mark is None and found == BLANK)
        assert found in (BLANK, UNKNOWN) or found == signature.Signature(fs_type)
    if action is Action.MOUNT:
        assert mark == Mark(Phase.FORMATTED, fs_type)
        assert found == signature.Signature(fs_type)


@given(MARKS)
def test_a_mark_is_read_as_it_was_written(mark: Mark | None) -> None:
    assert format.read_mark(mark.encode() if mark else None, "image") == mark


@given(st.text())
def test_any_other_mark_is_an_error_and_never_none(text: str) -> None:
    with pytest.raises(errors.Failed, match=r"image pool/image: .* nothing is formatted"):
        format.read_mark(text, "pool/image")
