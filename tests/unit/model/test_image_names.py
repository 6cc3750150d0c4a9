import hashlib

from hypothesis import example, given
from hypothesis import strategies as st

from rbdcsi.model import image_names

PREFIXES = st.from_regex(image_names.NAME_PREFIX, fullmatch=True)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
TAME = st.from_regex(r"[A-Za-z0-9._-]{1,140}", fullmatch=True)


@given(PREFIXES, NAMES | TAME, NAMES | TAME)
@example("csi-", "a", "sha256." + hashlib.sha256(b"a").hexdigest())
@example("csi-", "é", "sha256." + hashlib.sha256("é".encode()).hexdigest())
@example("csi-", "e\u0301", "\u00e9")
@example("csi-", "x" * 128, "x" * 129)
@example("csi-", "a", "a\n")
def test_two_names_never_share_an_image(prefix: str, one: str, other: str) -> None:
    same = image_names.image_name(prefix, one) == image_names.image_name(prefix, other)
    assert same == (one == other)


@given(PREFIXES, NAMES)
@example("csi-", "a/b@c")
@example("csi-", "👍\n" * 500)
def test_an_image_name_is_short_ascii_without_the_signs_of_an_image_spec(
    prefix: str, name: str
) -> None:
    made = image_names.image_name(prefix, name)
    assert made.startswith(prefix)
    assert made.isascii()
    assert made.isprintable()
    assert not set("/@ ") & set(made)
    assert len(made) <= 160


def test_a_name_as_kubernetes_gives_it_stays_readable() -> None:
    assert image_names.image_name("csi-", "pvc-0a1b") == "csi-pvc-0a1b"
