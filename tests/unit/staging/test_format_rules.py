"""The rule of never destroying, cell by cell as in docs/explanation/never-destroy.md."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.model import format_mark
from rbdcsi.model.filesystems import TABLE as FILESYSTEMS
from rbdcsi.model.format_mark import MARK, Mark, Phase
from rbdcsi.staging import format_rules
from rbdcsi.staging.format_rules import Action

BLANK = signature.BlankContent()
UNKNOWN = signature.Signature(signature.UNKNOWN)
EXT4, XFS = signature.Signature("ext4", "some-uuid"), signature.Signature("xfs")
RAW = Mark(Phase.RAW, "ext4")
FORMATTING, FORMATTED = Mark(Phase.FORMATTING, "ext4"), Mark(Phase.FORMATTED, "ext4")

TYPES = st.sampled_from(list(FILESYSTEMS))
MARKS = st.none() | st.builds(Mark, st.sampled_from(Phase), TYPES)
STRANGE = st.sampled_from([signature.UNKNOWN, "crypto_LUKS", "dos", "LVM2_member"])
FOUND = st.just(BLANK) | st.builds(signature.Signature, TYPES | STRANGE)

TABLE = [
    (None, BLANK, Action.MAKE),
    (None, EXT4, None),
    (None, UNKNOWN, None),
    (None, XFS, None),
    (RAW, BLANK, None),
    (RAW, EXT4, None),
    (RAW, UNKNOWN, None),
    (RAW, XFS, None),
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
    found: signature.Content,
    fs_type: str = "ext4",
    *,
    readonly: bool = False,
) -> Action | None:
    try:
        return format_rules.decide(mark, found, fs_type, readonly=readonly, image="pool/image")
    except errors.Refused:
        return None


@pytest.mark.parametrize(("mark", "found", "action"), TABLE)
def test_each_cell_is_decided_as_the_table_says(
    mark: Mark | None, found: signature.Content, action: Action | None
) -> None:
    assert _decide(mark, found) is action


@given(FOUND, TYPES, st.booleans())
def test_an_image_made_by_hand_is_mounted_as_what_it_is_or_refused(
    found: signature.Content, fs_type: str, readonly: bool
) -> None:
    holds_it = isinstance(found, signature.Signature) and found.fs_type == fs_type

    def decide() -> Action:
        return format_rules.decide(
            None, found, fs_type, readonly=readonly, image="pool/image", unmanaged=True
        )

    if holds_it:
        assert decide() is Action.MOUNT
    else:
        with pytest.raises(errors.Refused, match="never formatted"):
            decide()


@pytest.mark.parametrize("found", [BLANK, EXT4, UNKNOWN])
def test_an_image_made_by_hand_is_not_formatted_by_a_mark_either(
    found: signature.Content,
) -> None:
    with pytest.raises(errors.Refused, match="never formatted"):
        format_rules.decide(FORMATTING, found, "ext4", readonly=False, image="i", unmanaged=True)


def test_raw_use_is_told_how_to_mount_what_it_may_hold() -> None:
    with pytest.raises(errors.Refused, match=r"rbd image-meta set pool/image .*formatted"):
        format_rules.decide(RAW, EXT4, "ext4", readonly=False, image="pool/image")


def test_raw_use_is_marked_unless_the_image_is_formatted() -> None:
    assert format_rules.needs_raw_mark(None, "pool/image")
    assert format_rules.needs_raw_mark(RAW, "pool/image")
    assert not format_rules.needs_raw_mark(FORMATTED, "pool/image")


def test_raw_use_under_an_unfinished_format_is_refused() -> None:
    with pytest.raises(errors.Refused, match="making ext4 on it was interrupted"):
        format_rules.needs_raw_mark(FORMATTING, "pool/image")


@given(MARKS, FOUND, TYPES, st.booleans())
def test_nothing_is_made_where_data_could_be(
    mark: Mark | None, found: signature.Content, fs_type: str, readonly: bool
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
    assert format_mark.read_mark(MARK.encode(mark) if mark else None, "image") == mark


def test_a_mark_of_a_driver_without_generations_is_read() -> None:
    mark = format_mark.read_mark('{"state": "formatted", "type": "xfs"}', "image")
    assert mark == Mark(Phase.FORMATTED, "xfs")
    assert mark.generation is None


def test_a_mark_is_rewritten_with_the_fields_of_a_newer_driver() -> None:
    text = '{"state": "formatting", "type": "ext4", "generation": 7, "label": ["a"]}'
    mark = format_mark.read_mark(text, "image")
    assert mark
    assert mark.generation == 7
    assert json.loads(MARK.encode(mark)) == {"version": 1, **json.loads(text)}


def test_marks_of_two_attachments_differ_in_their_text() -> None:
    assert MARK.encode(Mark(Phase.FORMATTING, "ext4", 1)) != MARK.encode(
        Mark(Phase.FORMATTING, "ext4", 2)
    )


@given(st.text())
def test_any_other_mark_is_an_error_and_never_none(text: str) -> None:
    with pytest.raises(errors.Failed, match=r"image pool/image: .* nothing is formatted"):
        format_mark.read_mark(text, "pool/image")


@pytest.mark.parametrize(
    ("mark", "content", "hides"),
    [
        (FORMATTED, UNKNOWN, True),
        (FORMATTED, signature.Signature("iso9660"), True),
        (FORMATTED, XFS, True),
        (FORMATTED, EXT4, False),
        (FORMATTED, BLANK, False),
        (Mark(Phase.FORMATTED, "xfs"), UNKNOWN, False),
        (FORMATTING, UNKNOWN, False),
        (RAW, UNKNOWN, False),
        (None, UNKNOWN, False),
    ],
)
def test_superblock_is_looked_for_only_under_the_mark_of_that_finished_filesystem(
    mark: Mark | None, content: signature.Content, hides: bool
) -> None:
    assert format_rules.hides_superblock(mark, content, "ext4") is hides
