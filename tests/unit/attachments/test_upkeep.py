"""When a fence is renewed, lifted, or left to end."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from rbdcsi import errors
from rbdcsi.attachments.fences import Fence
from rbdcsi.attachments.upkeep import Action, next_action
from rbdcsi.nodes.registry import NodeRecord

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FENCE = Fence(
    address="10.0.0.1:0/1",
    volume="v1:c:1::a",
    node_id="n",
    machine_id="m-1",
    boot_id="b-1",
    since="2026-01-01T00:00:00+00:00",
    until=(NOW + timedelta(hours=20)).isoformat(),
    epoch=7,
)
NODE = NodeRecord("n", (), "b-1", "1", "2026-01-01T00:00:00+00:00", machine_id="m-1")


def _action(
    fence: Fence, node: NodeRecord | errors.Failed | None, now: datetime, *, is_listed: bool = True
) -> Action:
    return next_action(fence, node, now, is_listed=is_listed)


def test_a_fence_in_force_is_kept() -> None:
    assert _action(FENCE, NODE, NOW) is Action.KEEP


@pytest.mark.parametrize("hours", [11, 0, -5])
def test_it_is_renewed_long_before_its_end_and_after_it(hours: int) -> None:
    fence = dataclasses.replace(FENCE, until=(NOW + timedelta(hours=hours)).isoformat())
    assert _action(fence, NODE, NOW) is Action.RENEW


def test_it_is_renewed_when_the_clock_that_noted_its_end_was_ahead() -> None:
    fence = dataclasses.replace(FENCE, until=(NOW + timedelta(days=2)).isoformat())
    assert _action(fence, NODE, NOW) is Action.RENEW


@pytest.mark.parametrize(("hours", "action"), [(20, Action.KEEP), (11, Action.RENEW)])
def test_it_is_kept_up_while_the_record_of_its_node_is_damaged(hours: int, action: Action) -> None:
    fence = dataclasses.replace(FENCE, until=(NOW + timedelta(hours=hours)).isoformat())
    assert _action(fence, errors.Failed("damaged"), NOW) is action


def test_one_that_was_noted_only_is_made() -> None:
    fence = dataclasses.replace(FENCE, epoch=0, until=FENCE.since)
    assert _action(fence, NODE, NOW) is Action.RENEW
    assert _action(fence, None, NOW) is Action.RENEW


def test_it_is_lifted_when_the_node_reports_that_the_client_is_gone() -> None:
    assert _action(dataclasses.replace(FENCE, gone="2026"), NODE, NOW) is Action.LIFT


def test_one_that_ceph_does_not_list_is_made_again() -> None:
    assert _action(FENCE, NODE, NOW, is_listed=False) is Action.RENEW


def test_a_later_boot_of_the_same_machine_proves_the_client_gone() -> None:
    node = dataclasses.replace(NODE, boot_id="b-2", ended_boots=("b-0", "b-1"))
    assert _action(FENCE, node, NOW) is Action.LIFT


@pytest.mark.parametrize(
    ("machine", "boot", "ended"),
    [("m-2", "b-2", ("b-1",)), ("", "b-2", ("b-1",)), ("m-1", "", ()), ("m-1", "b-0", ())],
)
def test_another_machine_or_a_boot_that_the_record_does_not_know_proves_nothing(
    machine: str, boot: str, ended: tuple[str, ...]
) -> None:
    node = dataclasses.replace(NODE, machine_id=machine, boot_id=boot, ended_boots=ended)
    assert _action(FENCE, node, NOW) is Action.KEEP


def test_the_fence_of_a_node_that_was_retired_runs_out() -> None:
    assert _action(FENCE, None, NOW) is Action.KEEP
    assert _action(FENCE, None, NOW + timedelta(hours=21)) is Action.FORGET


def test_the_fence_of_a_retired_node_runs_out_although_a_new_machine_has_its_name() -> None:
    fence, node = (
        dataclasses.replace(FENCE, retired=True),
        dataclasses.replace(NODE, machine_id="m"),
    )
    assert _action(fence, node, NOW) is Action.KEEP
    assert _action(fence, node, NOW + timedelta(hours=21)) is Action.FORGET
