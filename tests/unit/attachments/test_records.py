"""A record is read as it was written, or not at all."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbdcsi import errors
from rbdcsi.attachments import records, rules
from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.model.capabilities import AccessMode, AccessType

TEXT = st.text(max_size=40)
ATTACHMENTS = st.builds(
    Attachment,
    st.sampled_from(AccessMode),
    st.booleans(),
    st.integers(0, 1 << 60),
    st.sampled_from(State),
    TEXT,
    st.none() | TEXT,
    st.none() | st.sampled_from(AccessType),
)
RECORDS = st.builds(
    VolumeRecord,
    st.integers(0, 1 << 60),
    st.dictionaries(TEXT, ATTACHMENTS, max_size=4),
    st.none() | st.text(min_size=1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ONE = VolumeRecord(
    7,
    {"n": Attachment(AccessMode.SINGLE_NODE_WRITER, True, 7, State.STAGED, "then", "ip:0/1")},
)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written_in_ascii(record: VolumeRecord) -> None:
    text = records.RECORD.encode(record)
    assert text.isascii()
    assert records.RECORD.decode(text, "here") == record


def test_the_stored_form_is_this_one() -> None:
    assert json.loads(records.RECORD.encode(ONE)) == {
        "version": 1,
        "generation": 7,
        "attachments": {
            "n": {
                "mode": "SINGLE_NODE_WRITER",
                "readonly": True,
                "generation": 7,
                "state": "staged",
                "since": "then",
                "client": "ip:0/1",
            }
        },
        "deleting": None,
    }


@pytest.mark.parametrize(
    ("access_type", "access"),
    [(AccessType.BLOCK, "block"), (AccessType.MOUNT, "mount"), (None, None)],
)
def test_the_access_type_is_kept_and_may_be_missing(
    access_type: AccessType | None, access: str | None
) -> None:
    attachment = dataclasses.replace(ONE.attachments["n"], access_type=access_type)
    text = records.RECORD.encode(ONE.having("n", attachment))
    assert json.loads(text)["attachments"]["n"].get("access") == access
    assert records.RECORD.decode(text, "here").attachments["n"].access_type is access_type


def test_the_fields_of_a_newer_driver_survive_each_change_by_this_one() -> None:
    facts = json.loads(records.RECORD.encode(ONE))
    facts["fences"] = {"ip:0/1": {"epoch": 7}}
    facts["attachments"]["n"]["boot"] = "b-1"
    record = records.RECORD.decode(json.dumps(facts), "here")
    changed = rules.release(record, "n", lambda _client: True, "now")
    after = json.loads(records.RECORD.encode(changed))
    assert after["fences"] == facts["fences"]
    assert after["attachments"]["n"]["boot"] == "b-1"
    assert after["attachments"]["n"]["state"] == "released"


@given(st.text() | JSON.map(json.dumps))
def test_anything_else_is_damaged_and_the_message_says_where(text: str) -> None:
    with pytest.raises(
        errors.Failed, match=r"object o, key k: attachment record (is damaged|has version)"
    ):
        records.RECORD.decode(text, "object o, key k")


@pytest.mark.parametrize("name", ["version", "generation", "attachments", "deleting"])
def test_a_record_without_one_of_its_parts_is_damaged(name: str) -> None:
    facts = json.loads(records.RECORD.encode(ONE))
    del facts[name]
    with pytest.raises(errors.Failed, match=f"is damaged .*{name}.*nothing is changed"):
        records.RECORD.decode(json.dumps(facts), "here")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "ANY"),
        ("state", "lost"),
        ("readonly", "no"),
        ("readonly", None),
        ("generation", "x"),
        ("generation", 1.5),
        ("generation", True),
        ("client", 5),
        ("since", 0),
        ("access", "file"),
        ("access", True),
        ("access", []),
    ],
)
def test_an_attachment_with_a_value_of_another_kind_is_damaged(name: str, value: object) -> None:
    facts = json.loads(records.RECORD.encode(ONE))
    facts["attachments"]["n"][name] = value
    with pytest.raises(errors.Failed, match="is damaged"):
        records.RECORD.decode(json.dumps(facts), "here")


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_a_record_of_another_version_is_left_to_the_driver_that_wrote_it(version: object) -> None:
    facts = {**json.loads(records.RECORD.encode(ONE)), "version": version}
    with pytest.raises(errors.Failed, match=f"has version {version}, this driver knows 2"):
        records.RECORD.decode(json.dumps(facts), "here")


def test_a_driver_of_before_rollbacks_cannot_read_a_record_that_has_one() -> None:
    rollback = records.Rollback("ip:0/1", 4, "s", 1 << 20, "then")
    record = dataclasses.replace(ONE, rollback=rollback, rollbacks=1)
    facts = json.loads(records.RECORD.encode(record))
    assert (facts["version"], facts["rollback"]["snap_id"]) == (2, 4)
    assert records.RECORD.decode(json.dumps(facts), "here") == record
    ended = dataclasses.replace(record, rollback=None)
    assert json.loads(records.RECORD.encode(ended))["version"] == 1
