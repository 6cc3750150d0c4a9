import base64
import struct
from pathlib import Path

import pytest

from rbdcsi.config import keys
from rbdcsi.config.secret import Secret

KEY = "AQAAAAAAAAAAABAAAQIDBAUGBwgJCgsMDQ4PEA=="


def test_a_key_as_ceph_prints_it_is_taken() -> None:
    assert keys.parse(KEY) == Secret(KEY)


@pytest.mark.parametrize("text", ["", "x", KEY[:-4], KEY[:-1], f"{KEY}\n", f"A{KEY}", "QUFB", "é"])
def test_what_is_no_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="not a Ceph key; use the output") as refused:
        keys.parse(text)
    assert not text.strip() or text.strip() not in str(refused.value).split()


def test_a_key_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert keys.from_file(path) == Secret(KEY)


def test_a_key_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="key is not a text file"):
        keys.from_file(path)


def test_a_keyring_with_spaces_comments_and_percent_signs_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keyring"
    path.write_text(f'# mine\n[client.u]\n    key={KEY}\n    caps osd = "profile rbd pool=50%"\n')
    assert keys.from_keyring(path, "u") == Secret(KEY)


@pytest.mark.parametrize(
    ("kind", "words"), [(2, "of type 2 (aes256k, not type 1, aes)"), (7, "of type 7 (not type 1")]
)
def test_the_type_of_a_key_that_older_programs_do_not_know_is_remarked(
    kind: int, words: str
) -> None:
    newer = base64.b64encode(struct.pack("<HIIH", kind, 0, 0, 32) + bytes(32)).decode()
    remark = keys.remark(keys.parse(newer))
    assert remark
    assert words in remark
    assert newer not in remark


def test_a_key_of_the_common_type_has_no_remark() -> None:
    assert keys.remark(keys.parse(KEY)) is None
