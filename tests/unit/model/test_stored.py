"""Drivers of different versions share what is stored: none loses what another one wrote."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.attachments.records import RECORD, State
from rbdcsi.host.mappers import state_dir
from rbdcsi.model import stored
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.model.format_mark import MARK, Mark, Phase
from rbdcsi.nodes import registry
from rbdcsi.volumes.spec import SPEC


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    count: int
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class Old:
    """What an older driver knows."""

    name: str
    part: Part
    parts: Mapping[str, Part]
    colours: tuple[Colour, ...] = ()
    size: int | None = None
    unknown: Mapping[str, Any] = stored.unknown_fields()


@dataclass(frozen=True)
class New:
    """What a newer driver knows."""

    name: str
    part: Part
    parts: Mapping[str, Part]
    colours: tuple[Colour, ...] = ()
    size: int | None = None
    owner: str | None = stored.later(None)
    rank: int = stored.later(0, key="position")
    unknown: Mapping[str, Any] = stored.unknown_fields()


OLD = stored.Kind(Old, name="thing", remedy="so nothing is done")
NEW = stored.Kind(New, name="thing", remedy="so nothing is done")
PARTS = st.builds(Part, st.integers())
THINGS = st.builds(
    New,
    st.text(),
    PARTS,
    st.dictionaries(st.text(), PARTS, max_size=3),
    st.lists(st.sampled_from(Colour), max_size=2).map(tuple),
    st.none() | st.integers(),
    st.none() | st.text(),
    st.integers(),
)


@given(THINGS)
def test_a_value_is_read_as_it_was_written(thing: New) -> None:
    text = NEW.encode(thing)
    assert text.isascii()
    assert NEW.decode(text, "here") == thing


@given(THINGS, st.text())
def test_a_rewrite_by_an_older_driver_loses_nothing_of_a_newer_one(thing: New, name: str) -> None:
    rewritten = OLD.encode(dataclasses.replace(OLD.decode(NEW.encode(thing), "here"), name=name))
    assert NEW.decode(rewritten, "here") == dataclasses.replace(thing, name=name)


@given(THINGS)
def test_an_older_driver_writes_a_newer_one_s_text_as_it_was(thing: New) -> None:
    text = NEW.encode(thing)
    assert OLD.encode(OLD.decode(text, "here")) == text  # a compare-and-swap finds it


@given(THINGS)
def test_a_newer_driver_reads_what_an_older_one_wrote(thing: New) -> None:
    older = Old(thing.name, thing.part, thing.parts, thing.colours, thing.size)
    newer = dataclasses.replace(thing, owner=None, rank=0)
    assert NEW.decode(OLD.encode(older), "here") == newer


def test_a_value_that_only_newer_drivers_may_change_is_read_and_not_rewritten() -> None:
    text = json.dumps({**json.loads(OLD.encode(Old("a", Part(1), {}))), "writer": 2})
    thing = OLD.decode(text, "here")
    assert thing.name == "a"
    with pytest.raises(errors.Refused, match="lets drivers of version 2 and newer change it"):
        OLD.encode(thing)
    assert json.loads(dataclasses.replace(OLD, version=2).encode(thing))["writer"] == 2


def test_a_value_of_a_newer_version_is_not_read() -> None:
    text = dataclasses.replace(OLD, version=2).encode(Old("a", Part(1), {}))
    with pytest.raises(errors.Failed, match="here: thing has version 2, this driver knows 1"):
        OLD.decode(text, "here")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", '{"version": 1}', '{"name": "a"}', "[" * 100_000],
)
def test_damage_is_told_in_one_way(text: str) -> None:
    with pytest.raises(errors.Failed, match=r"here: thing is damaged \(.*\), so nothing is"):
        OLD.decode(text, "here")


# ---- written by the first driver that was published (3bb695a)


def test_the_attachment_records_of_the_first_driver_are_read() -> None:
    record = RECORD.decode(
        '{"version":1,"generation":2,"attachments":{"n":{"mode":"SINGLE_NODE_WRITER",'
        '"readonly":false,"generation":2,"state":"staged","since":"2026-11-26T12:00:00+00:00",'
        '"client":"10.0.0.1:0/1"}},"deleting":null}',
        "here",
    )
    attachment = record.attachments["n"]
    assert (attachment.mode, attachment.state) == (AccessMode.SINGLE_NODE_WRITER, State.STAGED)
    assert (attachment.client, attachment.access_type) == ("10.0.0.1:0/1", None)


def test_the_node_records_of_the_first_driver_are_read() -> None:
    node = registry.RECORD.decode(
        '{"node_id": "n", "addresses": ["10.0.0.1:0/1"], "boot_id": "b", "driver_version": "0.1.0",'
        ' "last_seen": "2026-11-26T12:00:00+00:00", "max_volumes": 3, "mappers": ["krbd", "fuse"],'
        ' "topology": {"zone": "a"}}',
        "here",
    )
    assert (node.max_volumes, node.mappers, node.topology) == (3, ("krbd", "fuse"), {"zone": "a"})


def test_the_metadata_of_the_first_driver_is_read() -> None:
    made = SPEC.decode(
        '{"version":1,"name":"pvc-1","fs_type":"ext4","layout":{"features":["layering"],'
        '"object_bytes":4194304,"stripe_unit":null,"stripe_count":null,"data_pool":null},'
        '"node":{"mapper":null,"try_other_mappers":false,"map_options":{"krbd":"queue_depth=8"},'
        '"unmap_options":{},"mkfs_options":""}}',
        "here",
    )
    assert (made.layout.features, made.node.map_options) == (
        ("layering",),
        {"krbd": "queue_depth=8"},
    )


def test_the_marks_of_the_first_driver_are_read() -> None:
    mark = MARK.decode('{"state": "formatted", "type": "xfs"}', "here")
    assert mark == Mark(Phase.FORMATTED, "xfs")


def test_the_mapper_state_of_the_first_driver_is_read() -> None:
    record = state_dir.RECORD.decode(
        '{"image": {"fsid": "f", "pool_id": 1, "pool": "p", "namespace": "", "image_id": "1a",'
        ' "image_name": "csi-a", "features": 61}, "readonly": false}',
        "here",
    )
    assert (record.image.image_id, record.readonly) == ("1a", False)
