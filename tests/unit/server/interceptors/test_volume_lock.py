from typing import Any

import pytest

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.server.interceptors import volume_lock
from rbdcsi.server.interceptors.call import Call
from rbdcsi.server.locks import KeyedLocks
from tests.unit.server.interceptors.context import RESPONSE, run

ATTACH = csi_pb2.ControllerPublishVolumeRequest(volume_id="v1", node_id="n1")
DETACH = csi_pb2.ControllerUnpublishVolumeRequest(volume_id="v1", node_id="n2")
STAGE = csi_pb2.NodeStageVolumeRequest(volume_id="v1")
CREATE = csi_pb2.CreateVolumeRequest(name="v1")
SNAPSHOT = csi_pb2.CreateSnapshotRequest(name="v1", source_volume_id="v1")


def overlap(first: tuple[str, str, Any], second: tuple[str, str, Any]) -> None:
    layer = volume_lock.locked(KeyedLocks())

    def inner() -> None:
        service, method, request = second
        run(layer, lambda: RESPONSE, call=Call(service, method, "r2"), request=request)

    service, method, request = first
    run(layer, inner, call=Call(service, method, "r1"), request=request)


def test_two_changes_of_one_volume_exclude_each_other() -> None:
    with pytest.raises(
        errors.Busy, match=r"ControllerPublishVolume of volume 'v1' \(request r1\) has run for"
    ):
        overlap(
            ("Controller", "ControllerPublishVolume", ATTACH),
            ("Controller", "ControllerUnpublishVolume", DETACH),
        )


def test_two_creates_of_one_name_exclude_each_other() -> None:
    with pytest.raises(errors.Busy):
        overlap(("Controller", "CreateVolume", CREATE), ("Controller", "CreateVolume", CREATE))


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("Node", "NodeStageVolume", STAGE),  # one process may serve both
        ("Controller", "CreateVolume", CREATE),  # a name is no volume id
        ("Controller", "ControllerGetVolume", csi_pb2.ControllerGetVolumeRequest(volume_id="v1")),
        ("Controller", "DeleteVolume", csi_pb2.DeleteVolumeRequest(volume_id="v2")),
        ("Controller", "CreateSnapshot", SNAPSHOT),  # of that volume
    ],
)
def test_what_cannot_collide_runs_beside(service: str, method: str, request_: Any) -> None:
    overlap(("Controller", "ControllerPublishVolume", ATTACH), (service, method, request_))


def test_a_snapshot_may_have_the_name_of_a_volume() -> None:
    overlap(("Controller", "CreateVolume", CREATE), ("Controller", "CreateSnapshot", SNAPSHOT))
    with pytest.raises(errors.Busy, match="CreateSnapshot of snapshot 'v1'"):
        overlap(
            ("Controller", "CreateSnapshot", SNAPSHOT), ("Controller", "CreateSnapshot", SNAPSHOT)
        )


def test_calls_without_a_volume_are_left_to_the_checks_of_the_request() -> None:
    empty = csi_pb2.CreateVolumeRequest()
    overlap(("Controller", "CreateVolume", empty), ("Controller", "CreateVolume", empty))


def test_every_locked_method_and_its_field_are_in_csi() -> None:
    services = csi_pb2.DESCRIPTOR.services_by_name.values()
    methods = {method.name: method for service in services for method in service.methods}
    for method, field in volume_lock.LOCKED_BY.items():
        assert field in methods[method].input_type.fields_by_name
