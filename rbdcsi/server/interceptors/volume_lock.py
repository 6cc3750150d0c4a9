"""Refuses a call that changes a volume or snapshot while another one of its service does so."""

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any

import grpc

from rbdcsi.server.interceptors.call import Call, Layer, shortened
from rbdcsi.server.locks import KeyedLocks

# The request's field that names the volume or snapshot. Calls that only read take no lock.
LOCKED_BY = {
    "CreateVolume": "name",
    "DeleteVolume": "volume_id",
    "ControllerPublishVolume": "volume_id",
    "ControllerUnpublishVolume": "volume_id",
    "ControllerExpandVolume": "volume_id",
    "NodeStageVolume": "volume_id",
    "NodeUnstageVolume": "volume_id",
    "NodePublishVolume": "volume_id",
    "NodeUnpublishVolume": "volume_id",
    "NodeExpandVolume": "volume_id",
    "CreateSnapshot": "name",
    "DeleteSnapshot": "snapshot_id",
    "CreateVolumeGroupSnapshot": "name",
    "DeleteVolumeGroupSnapshot": "group_snapshot_id",
}


def locked(locks: KeyedLocks) -> Layer:
    """Return the layer; it raises `Busy` while another call holds the lock of the same object."""

    @contextlib.contextmanager
    def layer(call: Call, request: Any, _context: grpc.ServicerContext) -> Iterator[None]:
        field = LOCKED_BY.get(call.method, "")
        name = getattr(request, field) if field else ""
        if not name:
            yield
            return
        kind = "snapshot" if call.method.endswith("Snapshot") else "volume"
        operation = f"{call.method} of {kind} {shortened(name)!r} (request {call.request_id})"
        with locks.hold(lock_key(call.service, field, name, kind), operation):
            yield

    return layer


def lock_key(service: str, field: str, name: str, kind: str = "volume") -> Hashable:
    """Return the key of the lock that a call takes.

    Args:
        service: the CSI service; one process may serve both Controller and Node.
        field: the request's field that names the object.
        name: the value of that field.
        kind: of the object: a volume and a snapshot may have one name.
    """
    return service, kind, field, name
