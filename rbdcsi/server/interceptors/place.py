"""Limits the calls that are served at once for one pool, so that a sick pool delays only its own.

Each call has a thread, and calls that wait for Ceph wait in theirs. So calls for other pools and
clusters are served, however many wait for one that does not answer.
"""

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any

import grpc

from rbdcsi import errors
from rbdcsi.model import ids
from rbdcsi.runtime.turns import Turns
from rbdcsi.server.interceptors.call import Call, Layer

# Calls that ask Ceph about one volume or snapshot, or make one; the others must not wait for them.
LIMITED = frozenset(
    {
        "CreateVolume",
        "DeleteVolume",
        "ControllerPublishVolume",
        "ControllerUnpublishVolume",
        "ControllerExpandVolume",
        "ControllerGetVolume",
        "ValidateVolumeCapabilities",
        "GetCapacity",
        "NodeStageVolume",
        "NodeUnstageVolume",
        "NodeExpandVolume",
        "GetMetadataAllocated",
        "GetMetadataDelta",
        "CreateSnapshot",
        "DeleteSnapshot",
        "GetSnapshot",
        "CreateVolumeGroupSnapshot",
    }
)
# Fields of requests that name a volume or a snapshot, and thereby a pool.
_VOLUMES = ("volume_id", "source_volume_id")
_SNAPSHOTS = ("snapshot_id", "target_snapshot_id")


def limited(at_once: int) -> Layer:
    """Return the layer; `at_once` calls are served for one pool, further ones wait."""
    turns = Turns(at_once)

    @contextlib.contextmanager
    def layer(call: Call, request: Any, _context: grpc.ServicerContext) -> Iterator[None]:
        place = place_of(request) if call.method in LIMITED else None
        if place is None:
            yield
            return
        with turns.take((call.service, place), f"{at_once} other calls for the same pool"):
            yield

    return layer


def place_of(request: Any) -> Hashable | None:
    """Return cluster and pool of a request: by number or by name, as it has them; None if neither.

    A pool that is known by both counts twice, which does no harm: there are threads for both.
    """
    try:
        location = _location(request)
    except errors.NotFound:
        return None
    if location:
        return location.cluster_id, location.pool_id
    parameters = getattr(request, "parameters", None)
    if parameters is None:
        return None
    return parameters.get("clusterID", ""), parameters.get("pool", "")


def _location(request: Any) -> ids.LocationId | None:
    for field in _VOLUMES:
        if volume_id := getattr(request, field, ""):
            return ids.parse(volume_id).location
    for volume_id in getattr(request, "source_volume_ids", ()):  # all are in one pool
        return ids.parse(volume_id).location
    for field in _SNAPSHOTS:
        if snapshot_id := getattr(request, field, ""):
            return ids.parse_snapshot(snapshot_id).volume.location
    return None
