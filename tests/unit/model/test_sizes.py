import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import sizes
from rbdcsi.model.sizes import MIB

BYTES = st.integers(0, 1 << 62) | st.integers(0, 400 * MIB)
FILESYSTEMS = st.sampled_from([None, "ext4", "xfs", "btrfs"])
OBJECTS = st.sampled_from([1 << order for order in range(12, 26)])


@given(BYTES, BYTES, FILESYSTEMS, OBJECTS)
@example(0, 0, None, 1 << 22)
@example(1, 1, None, 1 << 22)
@example(MIB, MIB, None, 1 << 22)
@example(MIB + 1, 2 * MIB - 1, None, 1 << 22)
@example(0, MIB - 1, None, 1 << 22)
@example(2 * MIB, MIB, None, 1 << 22)
def test_a_size_is_the_least_whole_mib_in_the_range_or_there_is_none(
    required: int, limit: int, fs_type: str | None, object_bytes: int
) -> None:
    def fits(size: int) -> bool:
        in_range = size >= required and (not limit or size <= limit)
        return in_range and sizes.smallest(fs_type) <= size <= sizes.largest(object_bytes)

    least = max(-(-required // MIB) * MIB, sizes.smallest(fs_type))
    try:
        size = sizes.choose(required, limit, fs_type=fs_type, object_bytes=object_bytes)
    except errors.SizeOutOfRange:
        assert not fits(least)
    else:
        assert fits(size)
        assert size % MIB == 0
        assert size == least or not required


def test_without_a_size_a_gibibyte_is_made_or_what_the_limit_allows() -> None:
    assert sizes.choose(0, 0, fs_type="ext4", object_bytes=1 << 22) == sizes.GIB
    assert sizes.choose(0, 500 * MIB + 5, fs_type="xfs", object_bytes=1 << 22) == 500 * MIB


@pytest.mark.parametrize(("required", "limit"), [(-1, 0), (0, -1), (-5, -5)])
def test_a_negative_bound_is_no_range(required: int, limit: int) -> None:
    with pytest.raises(errors.InvalidRequest, match="negative bound"):
        sizes.choose(required, limit, fs_type=None, object_bytes=1 << 22)


def test_a_range_too_narrow_is_refused_with_a_limit_that_would_do() -> None:
    with pytest.raises(errors.SizeOutOfRange, match=f"ask for a limit of at least {2 * MIB} bytes"):
        sizes.choose(MIB + 1, MIB + 2, fs_type=None, object_bytes=1 << 22)


def test_a_size_beyond_the_object_map_is_refused_with_the_largest() -> None:
    most = sizes.largest(1 << 12)
    with pytest.raises(errors.SizeOutOfRange, match=rf"{most} bytes\); ask for less"):
        sizes.choose(most + 1, 0, fs_type=None, object_bytes=1 << 12)
    assert sizes.choose(most, 0, fs_type=None, object_bytes=1 << 12) == most


@given(BYTES, BYTES, st.integers(1, 1 << 50), OBJECTS)
@example(MIB + 1, 0, MIB, 1 << 22)
@example(0, MIB, MIB, 1 << 22)
@example(MIB, 0, 2 * MIB + 5, 1 << 22)
def test_a_volume_grows_to_the_least_whole_mib_and_never_shrinks(
    required: int, limit: int, current: int, object_bytes: int
) -> None:
    try:
        size = sizes.grown(required, limit, current=current, object_bytes=object_bytes)
    except errors.InvalidRequest:
        assert not required
        assert not limit
    except errors.SizeOutOfRange:
        least = max(current, -(-required // MIB) * MIB)
        assert 0 < limit < least or least > sizes.largest(object_bytes)
    else:
        assert size >= max(current, required)
        assert size in (current, -(-required // MIB) * MIB)
        assert not limit or size <= limit


def test_a_growth_without_a_bound_or_with_a_negative_one_is_no_request() -> None:
    for required, limit in ((0, 0), (-1, 0), (5, -1)):
        with pytest.raises(errors.InvalidRequest, match="must have a bound"):
            sizes.grown(required, limit, current=MIB, object_bytes=1 << 22)
