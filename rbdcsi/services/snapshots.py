"""The Controller service's calls about snapshots; see controller.py."""

from collections.abc import Callable

import grpc
from google.protobuf import timestamp_pb2

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.ceph import connections, locations
from rbdcsi.model import ids, snapshot_class
from rbdcsi.services import configured, convert
from rbdcsi.snapshots.create import SnapshotRequest, SnapshotTaker
from rbdcsi.snapshots.delete import SnapshotDeleter
from rbdcsi.snapshots.find import Page, Snapshot, SnapshotCatalogue

_RPC = csi_pb2.ControllerServiceCapability.RPC

CAPABILITIES = (_RPC.CREATE_DELETE_SNAPSHOT, _RPC.LIST_SNAPSHOTS, _RPC.GET_SNAPSHOT)

_NANOSECONDS = 1_000_000_000


class SnapshotCalls(csi_pb2_grpc.ControllerServicer):
    """Serves snapshots of volumes."""

    def __init__(
        self,
        pooled: connections.Connections,
        volume_locations: locations.Locations,
        deleted: Callable[[ids.LocationId], None],
    ) -> None:
        """Serve snapshots.

        Args:
            pooled: the connections.
            volume_locations: where the volumes are.
            deleted: called with its location after a deletion, when there may be data to remove.
        """
        self._config = pooled.configured
        self._taker = SnapshotTaker(pooled, volume_locations)
        self._snapshot_deleter = SnapshotDeleter(pooled, volume_locations, deleted)
        self._snapshots = SnapshotCatalogue(pooled, volume_locations)

    def CreateSnapshot(
        self, request: csi_pb2.CreateSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.CreateSnapshotResponse:
        """Take a snapshot of a volume, or return the one that the same request took before."""
        name = convert.required("name", request.name)
        source = ids.parse(convert.required("source_volume_id", request.source_volume_id))
        cluster_id = source.location.cluster_id
        configured.require_existing(self._config, cluster_id, f"volume {source}")
        parameters = snapshot_class.parse(request.parameters)
        snapshot = self._taker.take(
            SnapshotRequest(name, source, parameters), convert.credentials(request.secrets)
        )
        return csi_pb2.CreateSnapshotResponse(snapshot=snapshot_message(snapshot))

    def DeleteSnapshot(
        self, request: csi_pb2.DeleteSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.DeleteSnapshotResponse:
        """Delete a snapshot; an id that is none of this driver's counts as deleted."""
        snapshot_id = convert.required("snapshot_id", request.snapshot_id)
        credentials = convert.credentials(request.secrets)
        try:
            handle = ids.parse_snapshot(snapshot_id)
        except errors.NotFound:
            return csi_pb2.DeleteSnapshotResponse()
        cluster_id = handle.volume.location.cluster_id
        configured.require(self._config, cluster_id, f"snapshot {handle}")
        self._snapshot_deleter.delete(handle, credentials)
        return csi_pb2.DeleteSnapshotResponse()

    def ListSnapshots(
        self, request: csi_pb2.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ListSnapshotsResponse:
        """List the snapshots that the driver took; of one volume, or the one of an id.

        An id that names nothing gives an empty list (CSI: ListSnapshots).
        """
        try:
            page = self._page(request)
        except errors.NotFound:
            page = Page((), "")
        response = csi_pb2.ListSnapshotsResponse
        return response(
            entries=[response.Entry(snapshot=snapshot_message(each)) for each in page.snapshots],
            next_token=page.next_token,
        )

    def _page(self, request: csi_pb2.ListSnapshotsRequest) -> Page:
        credentials = convert.credentials(request.secrets)
        source = ids.parse(request.source_volume_id) if request.source_volume_id else None
        if not request.snapshot_id:
            return self._snapshots.page(
                request.max_entries, request.starting_token, source, credentials
            )
        handle = self._existing_handle(request.snapshot_id)
        if source and handle.volume != source:
            return Page((), "")
        return Page((self._snapshots.get(handle, credentials),), "")

    def GetSnapshot(
        self, request: csi_pb2.GetSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetSnapshotResponse:
        """Return one snapshot."""
        handle = self._existing_handle(convert.required("snapshot_id", request.snapshot_id))
        snapshot = self._snapshots.get(handle, convert.credentials(request.secrets))
        return csi_pb2.GetSnapshotResponse(snapshot=snapshot_message(snapshot))

    def _existing_handle(self, snapshot_id: str) -> ids.SnapshotHandle:
        handle = ids.parse_snapshot(snapshot_id)
        cluster_id = handle.volume.location.cluster_id
        configured.require_existing(self._config, cluster_id, f"snapshot {handle}")
        return handle


def creation_time(created_ns: int) -> timestamp_pb2.Timestamp:
    """Return the message of a time in nanoseconds since 1970."""
    seconds, nanoseconds = divmod(created_ns, _NANOSECONDS)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanoseconds)


def snapshot_message(snapshot: Snapshot) -> csi_pb2.Snapshot:
    """Return the message; an RBD snapshot is ready as soon as it exists."""
    return csi_pb2.Snapshot(
        size_bytes=snapshot.size,
        snapshot_id=str(snapshot.handle),
        source_volume_id=str(snapshot.handle.volume),
        creation_time=creation_time(snapshot.created_ns),
        ready_to_use=True,
        group_snapshot_id=str(snapshot.group) if snapshot.group else "",
    )
