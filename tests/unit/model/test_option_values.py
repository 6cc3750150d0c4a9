"""The kinds of values: each takes those that its words name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.model.option_values import (
    FLAG,
    NOTHING,
    Choice,
    Either,
    Items,
    Number,
    Values,
    label,
    mistake_of,
)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_a_number_is_in_its_range(least: int, most: int, value: int) -> None:
    assert Number(least, most).takes(str(value)) == (least <= value <= most)


@given(st.integers(1, 1 << 20))
def test_a_power_of_two_has_one_bit(value: int) -> None:
    assert Number(1, 1 << 20, power_of_2=True).takes(str(value)) == (value.bit_count() == 1)


@pytest.mark.parametrize(
    ("values", "taken", "refused"),
    [
        (Number(0, 8), ["0", "8"], ["", "9", "-1", "+1", "1 ", "1\n", "٣", "0x1", "1k", "9" * 30]),
        (Number(8, 8), ["010"], ["7"]),  # octal for some programs
        (Number(1024, 4096, "k"), ["1k", "4K", "1024"], ["5k", "0k", "1m", "1kb", "k"]),
        (Number(4096, 8192, "bsk"), ["2b", "7s", "8k"], ["9k"]),
        (Number(0, 100, multiple_of=8), ["0", "96"], ["4"]),
        (Either(Choice("0"), Number(2, 8)), ["0", "2"], ["1"]),
        (Choice("a", "b"), ["a"], ["", "A", "ab"]),
        (label(3), ["a-b", "abc", "_"], ["", "-a", "abcd", "a/b"]),
        (Items({"a": None, "b": FLAG}), ["a", "a,b=1,a"], ["", "a,", "a=1", "a=", "b", "b=2", "c"]),
        (Items({"a": Either(NOTHING, FLAG)}), ["a", "a=1"], ["a=", "a=2"]),
    ],
    ids=lambda values: values.words() if isinstance(values, Values) else None,
)
def test_a_kind_takes_its_values(values: Values, taken: list[str], refused: list[str]) -> None:
    assert [value for value in taken if not values.takes(value)] == []
    assert [value for value in refused if values.takes(value)] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (Number(1, 8), "a number from 1 to 8"),
        (Number(1, 8, "km"), "a number from 1 to 8, or with one of the units k m"),
        (Number(1, 8, power_of_2=True), "a power of two from 1 to 8"),
        (Number(8, 64, multiple_of=8), "a multiple of 8 from 8 to 64"),
        (Choice("a"), "a"),
        (Choice("", "a", "b"), "nothing, a or b"),
        (Either(NOTHING, Number(1, 8)), "nothing or a number from 1 to 8"),
        (Items({"a": None, "b": FLAG}), "a list of a, b"),
    ],
    ids=lambda values: values if isinstance(values, str) else None,
)
def test_words_name_the_values(values: Values, words: str) -> None:
    assert values.words() == words
    assert words in (mistake_of(values, "") or "") or values.takes("")
