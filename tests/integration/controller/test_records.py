"""The attachment records in Ceph, and the keys beside them that tell what a node holds."""

from collections.abc import Callable

import pytest

from rbdcsi.attachments.records import Attachment, State, VolumeRecord
from rbdcsi.attachments.store import Records
from rbdcsi.model.capabilities import AccessMode
from tests.integration.controller.view import View

NODES = ("a", "a/b", "a%2Fb", "b", "ü", "~node")


@pytest.fixture
def held(view: View) -> Records:
    return Records(view.ioctx)


def _attached(*nodes: str) -> VolumeRecord:
    mode, now = AccessMode.MULTI_NODE_MULTI_WRITER, "2026-01-01T00:00:00+00:00"
    return VolumeRecord(
        1, {node: Attachment(mode, False, 1, State.ATTACHED, now) for node in nodes}
    )


def _to(record: VolumeRecord | None) -> Callable[[VolumeRecord], VolumeRecord | None]:
    return lambda _before: record


def test_nodes_of_like_names_are_told_apart(held: Records) -> None:
    for number, node in enumerate(NODES):
        held.change(f"z{number}", _to(_attached(node, "all")))
    assert {node: held.attached_to(node) for node in NODES} == {
        node: [f"z{number}"] for number, node in enumerate(NODES)
    }
    assert sorted(held.attached_to("all")) == [f"z{number}" for number in range(len(NODES))]
    assert {image_id for image_id, _ in held.all()} == {f"z{n}" for n in range(len(NODES))}
    for number in range(len(NODES)):
        held.change(f"z{number}", _to(None))
    assert all(held.attached_to(node) == [] for node in (*NODES, "all"))


def test_a_node_comes_and_goes_with_its_record(held: Records) -> None:
    steps = [((), ("a",)), (("a",), ("a", "b")), (("a", "b"), ("b",)), (("b",), ())]
    for before, after in steps:
        assert sorted(held.get("1f").attachments) == list(before)
        held.change("1f", _to(_attached(*after)))
        assert [node for node in ("a", "b") if held.attached_to(node)] == list(after)
    held.change("1f", _to(None))
