import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.model import extents
from rbdcsi.model.extents import Extent

EXTENTS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)))


def covered(parts: Iterable[Extent]) -> set[int]:
    return {byte for offset, length in parts for byte in range(offset, offset + length)}


@given(EXTENTS)
def test_merged_extents_cover_the_same_bytes_and_do_not_touch(parts: list[Extent]) -> None:
    result = extents.merged(parts)
    assert covered(result) == covered(parts)
    assert all(sum(one) < other[0] for one, other in itertools.pairwise(result))


@given(EXTENTS, st.integers(1, 100))
def test_the_part_of_a_piece_reaches_from_its_first_byte_to_its_last(
    parts: list[Extent], piece_bytes: int
) -> None:
    touched = extents.TouchedPieces(piece_bytes)
    for part in parts:
        touched.add(*part)
    by_piece: dict[int, list[int]] = {}
    for byte in sorted(covered(parts)):
        by_piece.setdefault(byte // piece_bytes, []).append(byte)
    assert touched.parts() == [
        (piece[0], piece[-1] + 1 - piece[0]) for _, piece in sorted(by_piece.items())
    ]


@given(EXTENTS, st.integers(1, 50))
def test_joined_extents_have_the_same_bytes_and_the_short_gaps(
    parts: list[Extent], gap: int
) -> None:
    apart = extents.merged(parts)
    gaps = [
        (sum(one), other[0] - sum(one))
        for one, other in itertools.pairwise(apart)
        if other[0] - sum(one) < gap
    ]
    result = extents.joined(apart, gap)
    assert covered(result) == covered([*apart, *gaps])
    assert all(other[0] - sum(one) >= gap for one, other in itertools.pairwise(result))


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 40))
def test_windows_cover_a_range_once(start: int, end: int, most: int) -> None:
    windows = list(extents.windows(start, end, most))
    assert all(0 < length <= most for _, length in windows)
    assert [b for o, n in windows for b in range(o, o + n)] == list(range(start, end))


@given(st.tuples(st.integers(0, 90), st.integers(0, 30)), st.integers(0, 99), st.integers(0, 99))
def test_the_common_part_of_an_extent_and_a_range(part: Extent, start: int, end: int) -> None:
    common = extents.common(part, start, end)
    assert covered(common) == covered([part]) & set(range(start, end))
    assert all(length for _, length in common)


@given(EXTENTS, st.integers(1, 9))
def test_parts_of_a_list_keep_its_order(parts: list[Extent], most: int) -> None:
    lists = list(extents.parts(parts, most))
    assert all(0 < len(part) <= most for part in lists)
    assert [each for part in lists for each in part] == parts
