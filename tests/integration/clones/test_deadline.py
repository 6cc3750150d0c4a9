"""Callers whose time is too short for the work: it is finished, and a repeated call finds it."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from e2e import snapshots, volume
from e2e.driver import Driver
from e2e.volume import MIB, Volume
from rbdcsi.api import csi_pb2
from tests.integration.controller.view import View

pytestmark = pytest.mark.usefixtures("nothing_left")

SIZE = 16 * MIB
TOO_SHORT = 0.03  # seconds; the monitors need more for a snapshot

_Answer = TypeVar("_Answer")


@pytest.fixture
def source(controller: Driver) -> Iterator[Volume]:
    made = volume.create(controller, "source", size=SIZE)
    yield made
    volume.delete(controller, made)


def _repeated(call: Callable[..., _Answer], request: Any) -> _Answer:
    """Return the answer to a call that always has too little time, and is repeated."""
    return volume.until_let_through(lambda: call(request, timeout=TOO_SHORT), pause=0.1)


def test_copy_of_a_volume_is_finished(controller: Driver, view: View, source: Volume) -> None:
    request = csi_pb2.CreateVolumeRequest(
        name="copy",
        capacity_range=csi_pb2.CapacityRange(required_bytes=2 * SIZE),
        volume_capabilities=[source.capability],
        volume_content_source=volume.content_source(source.id),
    )
    made = _repeated(controller.controller.CreateVolume, request).volume
    assert made.capacity_bytes == 2 * SIZE
    with view.image(source) as image:
        assert [each for each in image.list_snaps() if each["namespace"] == 0] == []
    view.wait_until_no_copy_is_noted()
    volume.delete(controller, Volume(made.volume_id, source.capability, made.capacity_bytes, {}))


def test_snapshot_is_finished(controller: Driver, view: View, source: Volume) -> None:
    request = csi_pb2.CreateSnapshotRequest(name="snapshot", source_volume_id=source.id)
    taken = _repeated(controller.controller.CreateSnapshot, request).snapshot
    with view.image(source) as image:
        (found,) = image.list_snaps()
    assert taken.snapshot_id.endswith(f":{found['id']}")
    snapshots.delete(controller, taken.snapshot_id)
