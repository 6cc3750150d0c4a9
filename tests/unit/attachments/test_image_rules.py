"""One client at a time resizes an image or rolls it back, and all others are told of it."""

import pytest

from rbdcsi import errors
from rbdcsi.attachments import image_rules, records, rules
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.model.capabilities import AccessMode, Capability

VOLUME, NOW = "v1:c:1::a", "2026-01-01T00:00:00+00:00"
CAPABILITY = Capability(AccessMode.SINGLE_NODE_WRITER, block=True)
ROLLBACK = records.Rollback("a:0/1", 4, "before-upgrade", 10, NOW)
OTHER = records.Rollback("b:0/2", 5, "newer", 5, NOW)
NONE_ENDED: tuple[str, ...] = ()


def test_one_client_grows_an_image_until_it_has_finished_or_is_ended() -> None:
    first, other = records.Growth("a:0/1", 20, NOW), records.Growth("b:0/2", 30, NOW)
    begin_grow = image_rules.begin_grow
    record = begin_grow(VolumeRecord(), VOLUME, first, 10, NONE_ENDED)
    assert record.growth == first
    assert begin_grow(record, VOLUME, first, 10, NONE_ENDED) == record  # its own repeat

    with pytest.raises(errors.Busy, match="grown to 20 bytes by client a:0/1"):
        begin_grow(record, VOLUME, other, 10, NONE_ENDED)
    assert begin_grow(record, VOLUME, other, 20, NONE_ENDED).growth == other  # it has finished
    assert begin_grow(record, VOLUME, other, 10, {"a:0/1"}).growth == other  # it is ended

    record = rules.begin_delete(record, VOLUME, NOW)
    with pytest.raises(errors.NotFound, match="is being deleted"):
        begin_grow(record, VOLUME, first, 10, NONE_ENDED)


def test_a_volume_that_is_rolled_back_is_of_no_other_use_and_the_message_has_the_command() -> None:
    record = image_rules.begin_rollback(VolumeRecord(), VOLUME, ROLLBACK, NONE_ENDED)
    command = r"run it again: `rbdcsi volumes rollback v1:c:1::a s1:c:1::a:4`"
    with pytest.raises(errors.Refused, match=command):
        rules.attach(record, VOLUME, "n", CAPABILITY, False, NOW)
    with pytest.raises(errors.Refused, match=command):
        rules.begin_delete(record, VOLUME, NOW)
    with pytest.raises(errors.Refused, match=command):
        image_rules.begin_grow(record, VOLUME, records.Growth("c:0/3", 20, NOW), 10, NONE_ENDED)
    record = image_rules.end_rollback(record, ROLLBACK.client)
    assert rules.attach(record, VOLUME, "n", CAPABILITY, False, NOW).attachments.keys() == {"n"}


def test_an_attached_or_deleted_volume_is_not_rolled_back() -> None:
    attached = rules.attach(VolumeRecord(), VOLUME, "n", CAPABILITY, False, NOW)
    with pytest.raises(errors.Refused, match="is attached to 'n'"):
        image_rules.begin_rollback(attached, VOLUME, ROLLBACK, NONE_ENDED)
    deleted = rules.begin_delete(VolumeRecord(), VOLUME, NOW)
    with pytest.raises(errors.NotFound, match="is being deleted"):
        image_rules.begin_rollback(deleted, VOLUME, ROLLBACK, NONE_ENDED)


def test_a_rollback_goes_on_only_when_the_earlier_client_is_ended_and_keeps_the_size() -> None:
    record = image_rules.begin_rollback(VolumeRecord(), VOLUME, ROLLBACK, NONE_ENDED)
    with pytest.raises(errors.Busy, match="by client a:0/1"):
        image_rules.begin_rollback(record, VOLUME, OTHER, NONE_ENDED)
    after = image_rules.begin_rollback(record, VOLUME, OTHER, {ROLLBACK.client})
    assert after.rollback
    assert (after.rollback.client, after.rollback.snap_id) == (OTHER.client, 5)
    assert after.rollback.size == ROLLBACK.size  # the image is smaller for a while
    assert after.rollbacks == 2
    assert image_rules.end_rollback(after, ROLLBACK.client) == after
    assert image_rules.end_rollback(after, OTHER.client, record.rollback).rollback == ROLLBACK


def test_a_growth_is_waited_for_and_a_finished_one_is_no_unfinished_one_later() -> None:
    growth = records.Growth("g:0/1", 20, NOW)
    growing = image_rules.begin_grow(VolumeRecord(), VOLUME, growth, 10, NONE_ENDED)
    with pytest.raises(errors.Busy, match="grown to 20 bytes by client g:0/1"):
        image_rules.begin_rollback(growing, VOLUME, ROLLBACK, NONE_ENDED)
    assert image_rules.begin_rollback(growing, VOLUME, ROLLBACK, {"g:0/1"}).rollback
    grown = records.Rollback("a:0/1", 4, "s", 20, NOW)
    record = image_rules.begin_rollback(growing, VOLUME, grown, NONE_ENDED)
    assert image_rules.unfinished_growth(record, "x:0/9", 5) is None
