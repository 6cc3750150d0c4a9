"""The SnapshotMetadata service: blocks of snapshots, as streams of messages."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import grpc

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.ceph import connections, locations
from rbdcsi.model import extents, ids
from rbdcsi.services import convert
from rbdcsi.snapshots.changed_blocks import Blocks, ChangedBlocks

_MOST_RESULTS = 8192  # of a message: 128 KiB; gRPC's clients take 4 MiB

_Response = TypeVar(
    "_Response", csi_pb2.GetMetadataAllocatedResponse, csi_pb2.GetMetadataDeltaResponse
)


class SnapshotMetadata(csi_pb2_grpc.SnapshotMetadataServicer):
    """Serves blocks that have data in a snapshot, or differ between two."""

    def __init__(self, pooled: connections.Connections) -> None:
        self._connections = pooled
        self._blocks = ChangedBlocks(pooled, locations.Locations(pooled))

    def GetMetadataAllocated(
        self, request: csi_pb2.GetMetadataAllocatedRequest, context: grpc.ServicerContext
    ) -> Iterator[csi_pb2.GetMetadataAllocatedResponse]:
        """Stream the blocks that have data in a snapshot."""
        snapshot = self._snapshot("snapshot_id", request.snapshot_id)
        most = _most_results(request.max_results)
        blocks = self._blocks.allocated(
            snapshot, request.starting_offset, convert.credentials(request.secrets)
        )
        yield from _responses(csi_pb2.GetMetadataAllocatedResponse, blocks, most, context)

    def GetMetadataDelta(
        self, request: csi_pb2.GetMetadataDeltaRequest, context: grpc.ServicerContext
    ) -> Iterator[csi_pb2.GetMetadataDeltaResponse]:
        """Stream the blocks of a snapshot that differ from an older snapshot."""
        base = self._snapshot("base_snapshot_id", request.base_snapshot_id)
        target = self._snapshot("target_snapshot_id", request.target_snapshot_id)
        most = _most_results(request.max_results)
        blocks = self._blocks.between(
            base, target, request.starting_offset, convert.credentials(request.secrets)
        )
        yield from _responses(csi_pb2.GetMetadataDeltaResponse, blocks, most, context)

    def _snapshot(self, field: str, snapshot_id: str) -> ids.SnapshotHandle:
        handle = ids.parse_snapshot(convert.required(field, snapshot_id))
        cluster_id = handle.volume.location.cluster_id
        if not any(each.cluster_id == cluster_id for each in self._connections.configured.clusters):
            raise errors.NotFound(
                f"snapshot {handle} does not exist: its cluster {cluster_id} is not in the "
                "driver's configuration; correct the id, or add the cluster"
            )
        return handle


def _most_results(max_results: int) -> int:
    if max_results < 0:
        raise errors.InvalidRequest(f"max_results is {max_results}; set none, or a positive number")
    return min(max_results or _MOST_RESULTS, _MOST_RESULTS)


def _responses(
    response: type[_Response], blocks: Iterator[Blocks], most: int, context: grpc.ServicerContext
) -> Iterator[_Response]:
    """Yield the messages of a stream, at least one.

    Args:
        response: the messages' class.
        blocks: the blocks.
        most: the most blocks of a message.
        context: the call's gRPC context.
    """

    def message(capacity: int, ranges: Sequence[extents.Extent]) -> _Response:
        return response(
            block_metadata_type=csi_pb2.VARIABLE_LENGTH,
            volume_capacity_bytes=capacity,
            block_metadata=[
                csi_pb2.BlockMetadata(byte_offset=offset, size_bytes=length)
                for offset, length in ranges
            ],
        )

    sent, capacity = False, 0
    for found in blocks:
        if not context.is_active():  # gRPC notices it only when it sends a message
            context.set_code(grpc.StatusCode.CANCELLED)
            return
        capacity = found.capacity
        for part in extents.parts(found.extents, most):
            yield message(capacity, part)
            sent = True
    if not sent:
        yield message(capacity, ())  # it says the capacity
