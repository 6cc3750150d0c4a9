"""No copy is formatted if its source may hold data, whatever the source's spec and mark are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.host.block import signature
from rbdcsi.model import storage_class
from rbdcsi.model.format_mark import Mark, Phase
from rbdcsi.staging import format_rules
from rbdcsi.volumes import clone_rules, spec

EXT4 = spec.from_request("a", "ext4", storage_class.parse({}))
RAW = spec.from_request("a", None, storage_class.parse({}))
UNMANAGED = None
FILESYSTEMS = st.sampled_from(["ext4", "xfs", "btrfs"])
MARKS = st.none() | st.builds(Mark, st.sampled_from(list(Phase)), FILESYSTEMS, st.just(7))
SPECS = st.sampled_from([EXT4, RAW, UNMANAGED])
CONTENTS = st.just(signature.BlankContent()) | st.builds(
    signature.Signature, FILESYSTEMS | st.just(signature.UNKNOWN)
)


@given(SPECS, MARKS, FILESYSTEMS, CONTENTS)
def test_a_copy_is_formatted_only_if_its_source_would_be(
    source: spec.VolumeSpec | None, mark: Mark | None, asked: str, content: signature.Content
) -> None:
    try:
        fs_type = clone_rules.filesystem(source, mark, asked, named=False)
        assert fs_type
        copied = clone_rules.mark(source, mark, fs_type)
        action = format_rules.decide(copied, content, fs_type, readonly=False, image="copy")
    except errors.RbdCsiError:
        return
    if action is format_rules.Action.MOUNT:
        return
    # `stage` refuses a filesystem on a volume that was made for raw use only
    assert source is EXT4
    assert format_rules.decide(mark, content, fs_type, readonly=False, image="source") is action


@given(SPECS, FILESYSTEMS, st.none() | FILESYSTEMS)
def test_a_finished_filesystem_stays_one_that_is_copied(
    source: spec.VolumeSpec | None, fs_type: str, asked: str | None
) -> None:
    mark = Mark(Phase.FORMATTED, fs_type, 7)
    assert clone_rules.mark(source, mark, asked) == Mark(Phase.FORMATTED, fs_type, copied=True)


@pytest.mark.parametrize(
    ("source", "mark", "asked", "named", "expected"),
    [
        (EXT4, None, "ext4", True, "ext4"),
        (EXT4, None, None, True, None),
        (EXT4, None, "xfs", False, "ext4"),
        (EXT4, Mark(Phase.FORMATTED, "xfs"), "xfs", True, "xfs"),
        (EXT4, Mark(Phase.FORMATTED, "xfs"), "ext4", False, "xfs"),
        (EXT4, Mark(Phase.RAW, "ext4"), "ext4", True, "ext4"),
        (RAW, None, "xfs", False, "xfs"),
        (UNMANAGED, None, "xfs", False, "xfs"),
        (UNMANAGED, Mark(Phase.FORMATTED, "btrfs"), "xfs", False, "btrfs"),
    ],
)
def test_filesystem_of_a_copy(
    source: spec.VolumeSpec | None,
    mark: Mark | None,
    asked: str | None,
    named: bool,
    expected: str | None,
) -> None:
    assert clone_rules.filesystem(source, mark, asked, named=named) == expected


def test_another_filesystem_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="which is ext4, but xfs is requested"):
        clone_rules.filesystem(EXT4, None, "xfs", named=True)


def test_copy_needs_layering() -> None:
    with pytest.raises(errors.InvalidRequest, match="needs the feature layering"):
        clone_rules.require_layout(
            spec.from_request(
                "a", None, storage_class.parse({"imageFeatures": "exclusive-lock"})
            ).layout
        )
