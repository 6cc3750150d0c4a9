"""The header's bytes; tests/integration/controller/test_layout.py compares them with librbd's."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi.ceph import objects

WORDS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = {
    "size": struct.pack("<Q", 5 << 20),
    "order": b"\x16",
    "features": struct.pack("<Q", 61),
    "snap_seq": struct.pack("<Q", 0),
    "metadata_rbdcsi.pv": b"pv",
}


def test_a_plain_header_is_read() -> None:
    assert objects.decode(PLAIN) == objects.Header(
        size=5 << 20,
        object_bytes=4 << 20,
        features=61,
        stripe_unit=None,
        stripe_count=None,
        data_pool_id=None,
        metadata={"rbdcsi.pv": "pv"},
    )


@pytest.mark.parametrize("missing", ["size", "order", "features"])
@pytest.mark.parametrize("value", [None, b""])
def test_a_header_with_a_part_missing_or_short_is_none(missing: str, value: bytes | None) -> None:
    rest = {key: found for key, found in PLAIN.items() if key != missing}
    with pytest.raises(ValueError, match="not the header of a version 2 image"):
        objects.decode(rest if value is None else {**rest, missing: value})


@given(WORDS)
def test_text_is_read_by_its_length_whatever_follows(words: str) -> None:
    encoded = struct.pack("<I", len(words.encode())) + words.encode()
    assert objects.text(encoded + b"more") == words


@given(st.dictionaries(WORDS, WORDS, max_size=5))
def test_the_argument_of_metadata_set_is_a_counted_map(pairs: dict[str, str]) -> None:
    left = objects.metadata_set_argument(pairs)
    (count,) = struct.unpack_from("<I", left)
    left, found = left[4:], {}
    for _ in range(count):
        key = objects.text(left)
        left = left[4 + len(key.encode()) :]
        found[key] = objects.text(left)
        left = left[4 + len(found[key].encode()) :]
    assert found == pairs
    assert left == b""
