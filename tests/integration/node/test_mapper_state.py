"""A damaged or removed state of one mapped image hinders no other volume."""

from concurrent import futures
from pathlib import Path

import pytest

from e2e import volume
from tests.integration.node import lab as labs
from tests.integration.node.lab import Lab
from tests.refusal import refused

pytestmark = pytest.mark.usefixtures("nothing_left")

ROUNDS = 4
VOLUMES = 6


def _damaged(state: Path) -> list[Path]:
    """Make directories of images with records that cannot be read; return them."""
    made: list[Path] = []
    for mapper, content in (("fuse", b"\xff{"), ("nbd", b'{"version": 9}'), ("fuse", None)):
        directory = state / mapper / f"damaged-{len(made)}"
        directory.mkdir(parents=True)
        if content is None:
            (directory / "image.json").mkdir()
        else:
            (directory / "image.json").write_bytes(content)
        made.append(directory)
    return made


def test_calls_at_once_beside_damaged_states_do_not_disturb_each_other(lab: Lab) -> None:
    node = lab.nodes[0]
    damaged = _damaged(node.directory / "state")

    def come_and_go(number: int) -> None:
        with lab.volume(f"state-{number}") as made:
            for _ in range(ROUNDS):
                volume.stage(node, made)
                volume.publish(node, made)
                volume.unpublish(node, made)
                volume.unstage(node, made)

    try:
        with futures.ThreadPoolExecutor(VOLUMES) as callers:
            for call in [callers.submit(come_and_go, number) for number in range(VOLUMES)]:
                call.result()
        for directory in damaged:
            assert f"{directory}/image.json" in node.words()
    finally:
        for directory in damaged:
            _remove(directory)
    assert labs.held_at(node) == []


def test_volume_with_a_damaged_state_is_unstaged_whole_and_others_go_on(lab: Lab) -> None:
    node = lab.nodes[0]
    with lab.volume("state-own") as own, lab.volume("state-other") as other:
        volume.stage(node, own)
        volume.publish(node, own)
        (record,) = (node.directory / "state").glob("fuse/*/image.json")
        record.write_text("{")

        volume.stage(node, other)
        volume.publish(node, other)
        with refused("ABORTED", "in use by"):
            volume.unstage(node, own)
        assert lab.watchers(own) == {lab.record(own, node).client}
        volume.unpublish(node, own)
        volume.unstage(node, own)
        assert lab.watchers(own) == set()
        assert lab.record(own, node).client is None
        volume.unpublish(node, other)
        volume.unstage(node, other)
        assert labs.held_at(node) == []


def _remove(directory: Path) -> None:
    record = directory / "image.json"
    if record.is_dir():
        record.rmdir()
    else:
        record.unlink()
    directory.rmdir()
