"""Calls for one pool are limited; calls for another one, and calls without a pool, are not."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.runtime import deadlines
from rbdcsi.server.interceptors import place
from rbdcsi.server.interceptors.call import Call, Layer


def delete(volume_id: str) -> csi_pb2.DeleteVolumeRequest:
    return csi_pb2.DeleteVolumeRequest(volume_id=volume_id)


def serve(layer: Layer, method: str, request: Any, body: Any = csi_pb2.DeleteVolumeResponse) -> Any:
    context: Any = None
    with layer(Call("Controller", method, "id"), request, context):
        return body()


@pytest.mark.parametrize(
    ("method", "request_", "waits"),
    [
        ("DeleteVolume", delete("v1:a:7::2"), True),
        ("ControllerPublishVolume", delete("v1:a:7:tenant:3"), True),
        ("DeleteVolume", delete("v1:a:8::2"), False),
        ("DeleteVolume", delete("v1:b:7::2"), False),
        ("DeleteVolume", delete(""), False),
        ("DeleteVolume", delete("none of this driver's"), False),
        ("CreateSnapshot", csi_pb2.CreateSnapshotRequest(source_volume_id="v1:a:7::2"), True),
        ("CreateSnapshot", csi_pb2.CreateSnapshotRequest(source_volume_id="v1:a:8::2"), False),
        ("DeleteSnapshot", csi_pb2.DeleteSnapshotRequest(snapshot_id="s1:a:7::2:4"), True),
        ("GetSnapshot", csi_pb2.GetSnapshotRequest(snapshot_id="s1:a:7::2:4"), True),
        ("GetSnapshot", csi_pb2.GetSnapshotRequest(snapshot_id="s1:a:8::2:4"), False),
        ("ListSnapshots", csi_pb2.ListSnapshotsRequest(source_volume_id="v1:a:7::2"), False),
        ("CreateVolume", csi_pb2.CreateVolumeRequest(parameters={"pool": "p"}), False),
        ("ListVolumes", csi_pb2.ListVolumesRequest(), False),
        ("NodePublishVolume", delete("v1:a:7::2"), False),
    ],
)
def test_a_full_pool_is_waited_for_by_its_own_calls_only(
    method: str, request_: Any, waits: bool
) -> None:
    layer, entered, leave = place.limited(1), threading.Event(), threading.Event()

    def body() -> csi_pb2.DeleteVolumeResponse:
        entered.set()
        leave.wait(20)
        return csi_pb2.DeleteVolumeResponse()

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(serve, layer, "DeleteVolume", delete("v1:a:7::1"), body)
        assert entered.wait(10)
        try:
            if waits:
                with deadlines.within(0.05), pytest.raises(errors.DeadlineExceeded):
                    serve(layer, method, request_)
            else:
                with deadlines.within(10):
                    serve(layer, method, request_)
        finally:
            leave.set()
        first.result()
    with deadlines.within(10):
        serve(layer, method, request_)


def test_creations_of_one_class_share_a_pool() -> None:
    one, other = (csi_pb2.CreateVolumeRequest(name=name, parameters={"pool": "p"}) for name in "ab")
    assert place.place_of(one) == place.place_of(other) == ("", "p")
