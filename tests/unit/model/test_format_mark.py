"""The mark of a snapshot's content, and of an image that was rolled back to it."""

import itertools

import pytest

from rbdcsi.model import format_mark
from rbdcsi.model.format_mark import Mark, Phase

MARKS = [None, *(Mark(phase, "xfs", 3) for phase in Phase)]


@pytest.mark.parametrize(("current", "fs_type"), list(itertools.product(MARKS, ["xfs", None])))
def test_the_present_mark_is_that_of_every_earlier_snapshot(
    current: Mark | None, fs_type: str | None
) -> None:
    assert format_mark.of_unrecorded(current, fs_type, rolled_back=False) == current


@pytest.mark.parametrize("current", MARKS)
def test_after_a_rollback_a_snapshot_is_never_taken_for_blank(current: Mark | None) -> None:
    mark = format_mark.of_unrecorded(current, "xfs", rolled_back=True)
    assert mark
    assert mark.phase is (Phase.RAW if current and current.phase is Phase.RAW else Phase.FORMATTED)
    assert format_mark.of_unrecorded(current, None, rolled_back=True) == current


def test_a_filesystem_that_was_rolled_back_counts_as_a_copy_of_one() -> None:
    assert format_mark.rolled_back(None) is None
    formatted = format_mark.rolled_back(Mark(Phase.FORMATTED, "xfs", 3))
    assert formatted
    assert (formatted.phase, formatted.copied, formatted.generation) == (
        Phase.FORMATTED,
        True,
        None,
    )
    for phase in (Phase.RAW, Phase.FORMATTING):
        mark = format_mark.rolled_back(Mark(phase, "xfs", 3))
        assert mark
        assert (mark.phase, mark.copied) == (phase, False)
