"""Any order of calls, from any nodes, repeated or late: the record never lets two writers in."""

import dataclasses

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rbdcsi import errors
from rbdcsi.attachments import image_rules, records, rules
from rbdcsi.attachments.records import Attachment, Client, State, VolumeRecord
from rbdcsi.model.capabilities import AccessMode, AccessType, Capability, covers

VOLUME, NOW = "v1:c:1::a", "2026-01-01T00:00:00+00:00"
NODES = st.sampled_from(["a", "b", "c"])
CLIENTS = [Client(f"10.0.0.1:0/{number}", "machine", "boot", "krbd") for number in range(4)]
BLOCK = Capability(AccessMode.SINGLE_NODE_WRITER, block=True)
MOUNT = Capability(AccessMode.SINGLE_NODE_WRITER, block=False)
REFUSALS = (errors.Refused, errors.AlreadyExists, errors.Busy, errors.NotFound)


class Calls(RuleBasedStateMachine):
    """What controllers and nodes do to one record, and what may never come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.record = VolumeRecord()
        self.given: dict[str, list[int]] = {}  # generations that each node was ever told

    @rule(
        node=NODES,
        mode=st.sampled_from(AccessMode),
        readonly=st.booleans(),
        block=st.booleans(),
        settles=st.booleans(),
    )
    def attach(
        self, node: str, mode: AccessMode, readonly: bool, block: bool, settles: bool
    ) -> None:
        before, asked = self.record, Capability(mode, block)
        readonly = readonly or mode.reader_only
        try:
            after = rules.attach(before, VOLUME, node, asked, readonly, NOW, settles=settles)
        except REFUSALS:
            return
        assert not before.deleting
        assert not before.rollback
        if node in before.attachments:
            assert after == before
        else:
            assert after.generation == before.generation + 1
            assert after.attachments[node].generation == after.generation
        assert rules.attach(after, VOLUME, node, asked, readonly, NOW, settles=True) == after
        self.record = after
        self.given.setdefault(node, []).append(after.attachments[node].generation)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), client=st.none() | st.sampled_from(CLIENTS))
    def stage(self, data: st.DataObject, client: Client | None) -> None:
        node = data.draw(st.sampled_from(sorted(self.given)))
        generation = data.draw(st.sampled_from(self.given[node]))
        before = self.record.attachments.get(node)
        try:
            after = rules.stage(self.record, VOLUME, node, generation, client, NOW)
        except errors.Refused:
            assert (
                before is None or before.generation != generation or before.state is State.DETACHING
            )
            return
        assert before
        assert before.generation == generation  # never on the strength of an earlier attachment
        attachment = after.attachments[node]
        assert attachment.state is State.STAGED
        assert set(attachment.clients) == {*before.clients, *([client] if client else [])}
        self.record = after

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.given)))
        generation = data.draw(st.sampled_from(self.given[node]))
        try:
            after = rules.settled(self.record, VOLUME, node, generation)
        except REFUSALS:
            return
        before = self.record.attachments[node]
        assert not (before.settles and before.clients)
        assert not after.attachments[node].settles
        self.record = after

    @rule(node=NODES, gone=st.sets(st.sampled_from(CLIENTS)))
    def release(self, node: str, gone: set[Client]) -> None:
        after = rules.release(self.record, node, gone.__contains__, NOW)
        assert after.attachments.keys() == self.record.attachments.keys()
        assert rules.release(after, node, gone.__contains__, NOW) == after
        if before := self.record.attachments.get(node):
            attachment = after.attachments[node]
            assert set(attachment.clients) == set(before.clients) - gone
            assert (attachment.state is State.DETACHING) is (before.state is State.DETACHING)
        self.record = after

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def begin_detach(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.given)))
        generation = data.draw(st.sampled_from(self.given[node]))
        before = self.record.attachments.get(node)
        after = rules.begin_detach(self.record, node, generation, NOW)
        assert rules.begin_detach(after, node, generation, NOW) == after
        if before is None or before.generation != generation:
            assert after == self.record  # a late call harms no newer attachment
        else:  # its clients are kept until they are proved gone
            attachment = after.attachments.get(node)
            assert (attachment.clients if attachment else ()) == before.clients
            assert attachment is None or attachment.state is State.DETACHING
        self.record = after

    @precondition(lambda self: self.given)
    @rule(data=st.data(), gone=st.sets(st.sampled_from(CLIENTS)))
    def finish_detach(self, data: st.DataObject, gone: set[Client]) -> None:
        node = data.draw(st.sampled_from(sorted(self.given)))
        generation = data.draw(st.sampled_from(self.given[node]))
        before = self.record.attachments.get(node)
        after = rules.finish_detach(self.record, node, generation, gone.__contains__)
        if before is None or before.generation != generation:
            assert after == self.record  # a late call harms no newer attachment
        elif node not in after.attachments:
            assert set(before.clients) <= gone
        self.record = after

    @rule()
    def delete(self) -> None:
        try:
            after = rules.begin_delete(self.record, VOLUME, NOW)
        except errors.Refused:
            assert self.record.attachments or self.record.rollback
            return
        assert not self.record.attachments
        assert not self.record.rollback
        assert after.deleting
        self.record = after

    @rule(client=st.sampled_from(CLIENTS), ended=st.sets(st.sampled_from(CLIENTS)))
    def begin_rollback(self, client: Client, ended: set[Client]) -> None:
        rollback = records.Rollback(client.address, 4, "s", 10, NOW)
        addresses = {each.address for each in ended}
        try:
            after = image_rules.begin_rollback(self.record, VOLUME, rollback, addresses)
        except REFUSALS:
            return
        assert not self.record.attachments
        assert not self.record.deleting
        if before := self.record.rollback:
            assert before.client in {client.address, *addresses}
        assert after.rollback == rollback
        assert after.rollbacks == self.record.rollbacks + 1
        self.record = after

    @rule(client=st.sampled_from(CLIENTS))
    def end_rollback(self, client: Client) -> None:
        before = self.record
        after = image_rules.end_rollback(before, client.address)
        is_own = before.rollback is not None and before.rollback.client == client.address
        assert after == (dataclasses.replace(before, rollback=None) if is_own else before)
        self.record = after

    @invariant()
    def nodes_go_together(self) -> None:
        held = self.record.attachments.values()
        if len(held) < 2:
            return
        (mode,) = {attachment.mode for attachment in held}
        assert not mode.single_node
        writers = [attachment for attachment in held if not attachment.readonly]
        assert len(writers) <= 1 or mode is AccessMode.MULTI_NODE_MULTI_WRITER
        assert not (writers and mode.reader_only)

    @invariant()
    def a_node_that_replays_a_journal_is_alone(self) -> None:
        attachments = self.record.attachments.values()
        if any(each.settles for each in attachments):
            assert len(attachments) == 1
            assert all(each.readonly for each in attachments)

    @invariant()
    def generations_are_each_given_once(self) -> None:
        found = [attachment.generation for attachment in self.record.attachments.values()]
        assert len(set(found)) == len(found)
        assert all(0 < generation <= self.record.generation for generation in found)
        told = [generation for each in self.given.values() for generation in set(each)]
        assert len(set(told)) == len(told)

    @invariant()
    def a_volume_that_is_deleted_has_no_node(self) -> None:
        assert not (self.record.deleting and self.record.attachments)

    @invariant()
    def an_image_that_is_rolled_back_has_no_node(self) -> None:
        assert not (self.record.rollback and (self.record.attachments or self.record.deleting))

    @invariant()
    def it_is_read_as_it_was_written(self) -> None:
        assert records.RECORD.decode(records.RECORD.encode(self.record), "here") == self.record


TestCalls = Calls.TestCase


@pytest.mark.parametrize("state", [state for state in State if state is not State.DETACHING])
def test_the_refusal_names_the_holder_and_how_it_has_the_volume(state: State) -> None:
    held = Attachment(AccessMode.SINGLE_NODE_WRITER, False, 1, state, NOW)
    record = VolumeRecord(1, {"holder": held})
    words = (
        rf"{VOLUME} is {state.value} at node 'holder' as SINGLE_NODE_WRITER \(read-write\) "
        rf"since {NOW.replace('+', '.')}, so node 'other' .*; it must be detached from 'holder'"
    )
    with pytest.raises(errors.Refused, match=words):
        rules.attach(record, VOLUME, "other", BLOCK, True, NOW)


def test_a_node_that_is_not_attached_is_told_who_is() -> None:
    held = Attachment(AccessMode.MULTI_NODE_MULTI_WRITER, False, 1, State.ATTACHED, NOW)
    record = VolumeRecord(2, {"y": held, "x": held})
    with pytest.raises(errors.Refused, match=r"not attached to node 'z' \(attached: x, y\)"):
        rules.require(record, VOLUME, "z", 1)
    with pytest.raises(errors.Refused, match=r"\(attached: no node\)"):
        rules.require(VolumeRecord(), VOLUME, "z", 1)


def test_a_repeat_with_another_access_type_is_refused() -> None:
    record = rules.attach(VolumeRecord(), VOLUME, "n", BLOCK, False, NOW)
    assert rules.attach(record, VOLUME, "n", BLOCK, False, NOW) == record
    with pytest.raises(errors.AlreadyExists, match=r"read-write, block\), not as .*, mount\)"):
        rules.attach(record, VOLUME, "n", MOUNT, False, NOW)


def test_a_repeat_on_a_record_without_access_type_changes_nothing() -> None:
    held = Attachment(AccessMode.SINGLE_NODE_WRITER, False, 1, State.ATTACHED, NOW)
    record = VolumeRecord(1, {"n": held})
    for asked in (BLOCK, MOUNT):
        assert rules.attach(record, VOLUME, "n", asked, False, NOW) == record
        rules.require_covered(held, asked, VOLUME, "n")


@pytest.mark.parametrize("attached", AccessType)
@pytest.mark.parametrize("asked", AccessType)
def test_only_the_access_type_that_is_attached_is_staged(
    attached: AccessType, asked: AccessType
) -> None:
    mode = AccessMode.SINGLE_NODE_WRITER
    attachment = Attachment(mode, False, 1, State.ATTACHED, NOW, access_type=attached)
    capability = Capability(mode, block=asked is AccessType.BLOCK)
    if attached is asked:
        rules.require_covered(attachment, capability, VOLUME, "n")
        return
    with pytest.raises(errors.Refused, match="which does not allow to stage it as") as refused:
        rules.require_covered(attachment, capability, VOLUME, "n")
    assert f"SINGLE_NODE_WRITER (read-write, {attached.value})" in str(refused.value)
    assert f"{asked.value} SINGLE_NODE_WRITER" in str(refused.value)


def test_a_record_of_several_writers_without_access_type_is_of_a_block_device() -> None:
    held = Attachment(AccessMode.MULTI_NODE_MULTI_WRITER, False, 1, State.ATTACHED, NOW)
    rules.require_covered(held, BLOCK, VOLUME, "n")
    with pytest.raises(errors.Refused, match="MULTI_NODE_MULTI_WRITER"):
        rules.require_covered(held, MOUNT, VOLUME, "n")


@pytest.mark.parametrize("attached", AccessMode)
@pytest.mark.parametrize("asked", AccessMode)
def test_only_a_mode_that_the_attachment_covers_is_staged(
    attached: AccessMode, asked: AccessMode
) -> None:
    held = Attachment(attached, False, 1, State.ATTACHED, NOW, access_type=AccessType.BLOCK)
    if covers(attached, asked):
        rules.require_covered(held, Capability(asked, block=True), VOLUME, "n")
        return
    with pytest.raises(errors.Refused, match=f"{attached.value} .* {asked.value}"):
        rules.require_covered(held, Capability(asked, block=True), VOLUME, "n")


def test_a_second_reader_waits_until_the_first_has_replayed_the_journal() -> None:
    readers = Capability(AccessMode.MULTI_NODE_READER_ONLY, block=False)
    record = rules.attach(VolumeRecord(), VOLUME, "a", readers, True, NOW, settles=True)
    with pytest.raises(errors.Busy, match="whose journal node 'a' replays, since 2026"):
        rules.attach(record, VOLUME, "b", readers, True, NOW, settles=True)
    record = rules.stage(record, VOLUME, "a", 1, CLIENTS[0], NOW)
    with pytest.raises(errors.Busy, match="still has it mapped for writing"):
        rules.settled(record, VOLUME, "a", 1)
    record = rules.settled(rules.release(record, "a", lambda _: True, NOW), VOLUME, "a", 1)
    assert rules.attach(record, VOLUME, "b", readers, True, NOW).attachments.keys() == {"a", "b"}


def test_a_writer_settles_nothing() -> None:
    record = rules.attach(VolumeRecord(), VOLUME, "a", MOUNT, False, NOW, settles=True)
    assert not record.attachments["a"].settles
