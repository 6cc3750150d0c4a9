"""An entry of the trash; tests/integration/controller/test_cut_off.py compares it with librbd's."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.ceph import objects, trash
from rbdcsi.ceph.trash import Entry, State

NAMES = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = struct.pack("<IIII", 1764160000, 5, 1764160000, 5)


def _encoded(name: str, state: State | None, version: int, after: bytes = b"") -> bytes:
    body = b"\0" + objects.counted(name) + TIMES + (bytes((state.value,)) if state else b"") + after
    return struct.pack("<BBI", version, 1, len(body)) + body


@given(NAMES, st.sampled_from(State), st.binary())
def test_name_and_state_are_read_also_from_a_newer_version(
    name: str, state: State, after: bytes
) -> None:
    assert trash.decode(_encoded(name, state, 2)) == Entry(name, state)
    assert trash.decode(_encoded(name, state, 3, after)) == Entry(name, state)


@given(NAMES)
def test_an_entry_of_the_first_version_is_a_complete_move(name: str) -> None:
    assert trash.decode(_encoded(name, None, 1)) == Entry(name, State.NORMAL)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\2\1",
        _encoded("name", None, 2),
        _encoded("name", State.NORMAL, 2)[:-1] + b"\x09",
        _encoded("name", State.NORMAL, 2)[:12],
    ],
)
def test_anything_else_is_no_entry(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an entry of the trash|is not a valid State"):
        trash.decode(value)
