"""What a volume is survives being written down; what differs is said in words."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.ceph.objects import Header
from rbdcsi.model import image_layout, storage_class
from rbdcsi.model.image_layout import Layout
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.model.storage_class import Parameters
from rbdcsi.volumes import spec
from rbdcsi.volumes.spec import VolumeSpec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SIZES = st.none() | st.integers(1, 1 << 40)
LAYOUTS = st.builds(
    Layout,
    st.lists(st.sampled_from(image_layout.CHOOSABLE), unique=True).map(tuple),
    st.sampled_from([1 << order for order in range(12, 26)]),
    SIZES,
    SIZES,
    st.none() | TEXT,
)
OPTIONS = st.dictionaries(st.sampled_from(["krbd", "nbd", "fuse"]), TEXT)
NODE_OPTIONS = st.builds(NodeOptions, st.none() | TEXT, st.booleans(), OPTIONS, OPTIONS, TEXT)
SPECS = st.builds(VolumeSpec, TEXT, st.none() | TEXT, LAYOUTS, NODE_OPTIONS)

ONE = spec.from_request("pvc-1", "ext4", Parameters())
POOL = "kubernetes"
SIZE = 64 << 20


@given(SPECS)
def test_a_spec_is_read_as_it_was_written_in_ascii(one: VolumeSpec) -> None:
    pairs = spec.metadata(one, Parameters())
    assert pairs.keys() == {spec.KEY}
    assert pairs[spec.KEY].isascii()
    assert spec.read(pairs, "image") == one
    assert list(spec.differences(one, SIZE, one, SIZE, 0)) == []


def test_names_for_people_stand_beside_it_where_there_are_any() -> None:
    given_names = Parameters(pvc_name="data", pvc_namespace="shop", pv_name="pvc-1")
    pairs = spec.metadata(ONE, given_names)
    assert (pairs[spec.PVC], pairs[spec.PVC_NAMESPACE], pairs[spec.PV]) == ("data", "shop", "pvc-1")


def test_an_image_without_it_is_no_volume_yet() -> None:
    assert spec.read({"owner": "me"}, "image") is None


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_damaged_and_the_image_named(text: str) -> None:
    with pytest.raises(errors.Failed, match=r"image csi-a: metadata rbdcsi.volume is damaged"):
        spec.read({spec.KEY: text}, "csi-a")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda facts: facts.pop("name"),
        lambda facts: facts.pop("layout"),
        lambda facts: facts["layout"].pop("features"),
        lambda facts: facts.update(node=None),
    ],
)
def test_a_spec_with_parts_missing_is_damaged(spoil: object) -> None:
    assert callable(spoil)
    facts = json.loads(spec.metadata(ONE, Parameters())[spec.KEY])
    spoil(facts)
    with pytest.raises(errors.Failed, match="is damaged"):
        spec.read({spec.KEY: json.dumps(facts)}, "csi-a")


def test_the_fields_of_a_newer_driver_are_kept_wherever_they_stand() -> None:
    facts = json.loads(spec.metadata(ONE, Parameters())[spec.KEY])
    for part in (facts, facts["layout"], facts["node"]):
        part["newer"] = {"a": [1]}
    made = spec.read({spec.KEY: json.dumps(facts)}, "csi-a")
    assert made is not None
    assert made == ONE
    assert json.loads(spec.metadata(made, Parameters())[spec.KEY]) == facts


def test_a_spec_of_another_version_is_left_to_that_version() -> None:
    facts = {**json.loads(spec.metadata(ONE, Parameters())[spec.KEY]), "version": 2}
    with pytest.raises(errors.Failed, match="has version 2, this driver knows 1: run"):
        spec.read({spec.KEY: json.dumps(facts)}, "csi-a")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "pvc-2"}, "it belongs to the volume named 'pvc-1'"),
        ({"fs_type": "xfs"}, "it is for ext4, requested is xfs"),
        ({"fs_type": None}, "it is for ext4, requested is raw block use"),
        (
            {"layout": Layout(image_layout.DEFAULT, 1 << 20)},
            "its object_bytes is 4194304, requested is",
        ),
        ({"node": NodeOptions(mapper="nbd")}, "its mapper is None, requested is 'nbd'"),
    ],
)
def test_each_difference_is_said_alone(change: dict[str, object], words: str) -> None:
    wanted = dataclasses.replace(ONE, **change)  # type: ignore[arg-type]
    (found,) = spec.differences(ONE, SIZE, wanted, SIZE, 0)
    assert words in found


@pytest.mark.parametrize(
    ("required", "limit", "fits"),
    [(0, 0, True), (SIZE, SIZE, True), (SIZE + 1, 0, False), (0, SIZE - 1, False)],
)
def test_a_size_fits_a_range(required: int, limit: int, fits: bool) -> None:
    assert (list(spec.differences(ONE, SIZE, ONE, required, limit)) == []) == fits


def test_an_image_laid_out_otherwise_is_told_from_a_half_made_one() -> None:
    bits = image_layout.mask((*image_layout.DEFAULT, "striping"))
    header = Header(SIZE, 4 << 20, bits, None, None, None, {})
    layout = spec.from_request("a", None, storage_class.parse({})).layout
    assert list(spec.layout_differences(header, layout, POOL)) == []
    for change, words in [
        ({"features": 1}, "it has the features layering, requested are layering,exclusive-lock"),
        ({"object_bytes": 1 << 20, "stripe_unit": 4 << 20}, "its objects have 1048576 bytes"),
        (
            {"stripe_count": 4, "stripe_unit": 1 << 20},
            r"are (1048576, 4), requested are (4194304, 1)",
        ),
        ({"data_pool_id": 3}, "it has a data pool"),
    ]:
        other = dataclasses.replace(header, **change)  # type: ignore[arg-type]
        (found,) = spec.layout_differences(other, layout, POOL)
        assert words in found


@pytest.mark.parametrize(
    ("parameters", "features", "data_pool_id"),
    [
        ({"imageFeatures": "layering,exclusive-lock,object-map"}, 13 + 16, None),
        ({"imageFeatures": "layering,exclusive-lock,object-map"}, 13, None),
        ({"dataPool": POOL}, image_layout.mask(image_layout.DEFAULT), None),
        ({"dataPool": "other"}, image_layout.mask((*image_layout.DEFAULT, "data-pool")), 3),
    ],
)
def test_an_image_is_as_librbd_makes_it_from_the_layout(
    parameters: dict[str, str], features: int, data_pool_id: int | None
) -> None:
    layout = spec.from_request("a", None, storage_class.parse(parameters)).layout
    header = Header(SIZE, 4 << 20, features, None, None, data_pool_id, {})
    assert list(spec.layout_differences(header, layout, POOL)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"unmap_options": "force"},
        {"unmap_options": None},
        {"map_options": {"krbd": 5}},
        {"mkfs_options": ["-m0"]},
    ],
)
def test_node_options_of_another_kind_are_damaged(options: dict[str, object]) -> None:
    facts = json.loads(spec.metadata(ONE, Parameters())[spec.KEY])
    facts["node"].update(options)
    with pytest.raises(errors.Failed, match=r"rbdcsi\.volume is damaged"):
        spec.read({spec.KEY: json.dumps(facts)}, "csi-a")
