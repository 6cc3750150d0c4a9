"""The rule of never destroying, cell by cell as in docs/explanation/never-destroy.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.host import content, filesystems
from rbdcsi.staging import filesystem
from rbdcsi.staging.filesystem import Action, Mark, Phase

BLANK = content.Blank()
UNKNOWN = content.Signature(content.UNKNOWN)
EXT4, XFS = content.Signature("ext4", "some-uuid"), content.Signature("xfs")
FORMATTING, FORMATTED = Mark(Phase.FORMATTING, "ext4"), Mark(Phase.FORMATTED, "ext4")

TYPES = st.sampled_from(filesystems.FS_TYPES)
MARKS = st.none() | st.builds(Mark, st.sampled_from(Phase), TYPES)
STRANGE = st.sampled_from([content.UNKNOWN, "crypto_LUKS", "dos", "LVM2_member"])
FOUND = st.just(BLANK) | st.builds(content.Signature, TYPES | STRANGE)

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
    found: content.Blank | content.Signature,
    fs_type: str = "ext4",
    *,
    readonly: bool = False,
) -> Action | None:
    try:
        return filesystem.decide(mark, found, fs_type, readonly=readonly, image="pool/image")
    except errors.Refused:
        return None


@pytest.mark.parametrize(("mark", "found", "action"), TABLE)
def test_each_cell_is_decided_as_the_table_says(
    mark: Mark | None, found: content.Blank | content.Signature, action: Action | None
) -> None:
    assert _decide(mark, found) is action


@given(FOUND, TYPES, st.booleans())
def test_an_image_made_by_hand_is_mounted_as_what_it_is_or_refused(
    found: content.Blank | content.Signature, fs_type: str, readonly: bool
) -> None:
    holds_it = isinstance(found, content.Signature) and found.fs_type == fs_type

    def decide() -> Action:
        return filesystem.decide(
            None, found, fs_type, readonly=readonly, image="pool/image", by_hand=True
        )

    if holds_it:
        assert decide() is Action.MOUNT
    else:
        with pytest.raises(errors.Refused, match="never formatted"):
            decide()


@given(MARKS, FOUND, TYPES, st.booleans())
def test_nothing_is_made_where_data_could_be(
    mark: Mark | None, found: content.Blank | content.Signature, fs_type: str, readonly: bool
) -> None:
    action = _decide(mark, found, fs_type, readonly=readonly)
    if action in {Action.MAKE, Action.MAKE_AGAIN}:
        assert not readonly
        begun_by_us = mark == Mark(Phase.FORMATTING, fs_type)
        assert begun_by_us or (mark is None and found == BLANK)
        assert found in (BLANK, UNKNOWN) or found == content.Signature(fs_type)
    if action is Action.MOUNT:
        assert mark == Mark(Phase.FORMATTED, fs_type)
        assert found == content.Signature(fs_type)


@given(MARKS)
def test_a_mark_is_read_as_it_was_written(mark: Mark | None) -> None:
    assert filesystem.read_mark(mark.encode() if mark else None, "image") == mark


@given(st.text())
def test_any_other_mark_is_an_error_and_never_none(text: str) -> None:
    with pytest.raises(errors.Failed, match=r"image pool/image: .* nothing is formatted"):
        filesystem.read_mark(text, "pool/image")
