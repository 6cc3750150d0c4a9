import pytest
import rbd
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.model import image_layout

NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map", "journaling": "exclusive-lock"}


@given(st.sets(st.sampled_from(image_layout.CHOOSABLE)))
def test_a_feature_is_taken_exactly_with_what_it_needs(chosen: set[str]) -> None:
    lacking = {name for name in chosen if NEEDS.get(name, name) not in chosen}
    if lacking:
        with pytest.raises(errors.InvalidRequest, match=r"needs .*; add it, or leave") as refused:
            image_layout.parse(",".join(chosen))
        assert any(f"{name} needs {NEEDS[name]}" in str(refused.value) for name in lacking)
    else:
        assert set(image_layout.parse(" , ".join(sorted(chosen)))) == chosen


@given(st.sets(st.sampled_from(tuple(image_layout.BITS))))
def test_names_and_mask_are_each_other_s_inverse(chosen: set[str]) -> None:
    assert set(image_layout.names(image_layout.mask(chosen))) == chosen


def test_unknown_bits_are_shown_as_a_number() -> None:
    assert image_layout.names(1 | 1 << 40) == ("layering", hex(1 << 40))


def test_an_unknown_feature_is_refused_with_the_nearest_and_all_that_are_known() -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        image_layout.parse("layering,exclusivelock")
    assert "'exclusivelock' cannot be chosen; did you mean exclusive-lock?" in str(refused.value)
    assert "journaling" in str(refused.value)


@pytest.mark.parametrize("name", ["striping", "data-pool"])
def test_features_that_follow_from_other_parameters_cannot_be_named(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="cannot be chosen"):
        image_layout.parse(f"layering,{name}")


def test_the_bits_are_librbd_s() -> None:
    for name, bit in image_layout.BITS.items():
        constant = "STRIPINGV2" if name == "striping" else name.upper().replace("-", "_")
        assert bit == getattr(rbd, f"RBD_FEATURE_{constant}")
