"""The GroupController service: snapshots of several volumes, all of one moment."""

from collections.abc import Callable

import grpc

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.ceph import connections, locations
from rbdcsi.model import ids, snapshot_class
from rbdcsi.services import configured, convert
from rbdcsi.services.snapshots import creation_time, snapshot_message
from rbdcsi.snapshots.group_create import Group, GroupRequest, GroupTaker
from rbdcsi.snapshots.group_delete import GroupCatalogue

_RPC = csi_pb2.GroupControllerServiceCapability.RPC

CAPABILITIES = (_RPC.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,)


class GroupController(csi_pb2_grpc.GroupControllerServicer):
    """Serves group snapshots."""

    def __init__(
        self, pooled: connections.Connections, deleted: Callable[[ids.LocationId], None]
    ) -> None:
        """Serve group snapshots.

        Args:
            pooled: the connections.
            deleted: called with its location after a deletion, when there may be data to remove.
        """
        volume_locations = locations.Locations(pooled)
        self._config = pooled.configured
        self._taker = GroupTaker(pooled, volume_locations)
        self._groups = GroupCatalogue(pooled, volume_locations, deleted)

    def GroupControllerGetCapabilities(
        self,
        request: csi_pb2.GroupControllerGetCapabilitiesRequest,
        context: grpc.ServicerContext,
    ) -> csi_pb2.GroupControllerGetCapabilitiesResponse:
        """Return the supported RPCs."""
        capability = csi_pb2.GroupControllerServiceCapability
        return csi_pb2.GroupControllerGetCapabilitiesResponse(
            capabilities=[capability(rpc=_RPC(type=kind)) for kind in CAPABILITIES]
        )

    def CreateVolumeGroupSnapshot(
        self, request: csi_pb2.CreateVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.CreateVolumeGroupSnapshotResponse:
        """Take a group snapshot, or return the one that the same request took before."""
        name = convert.required("name", request.name)
        if not request.source_volume_ids:
            raise errors.InvalidRequest("source_volume_ids is missing")
        sources = [ids.parse(volume_id) for volume_id in request.source_volume_ids]
        for source in sources:
            configured.require_existing(
                self._config, source.location.cluster_id, f"volume {source}"
            )
        parameters = snapshot_class.parse(request.parameters)
        group = self._taker.take(
            GroupRequest(name, sources, parameters), convert.credentials(request.secrets)
        )
        return csi_pb2.CreateVolumeGroupSnapshotResponse(group_snapshot=_group(group))

    def DeleteVolumeGroupSnapshot(
        self, request: csi_pb2.DeleteVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.DeleteVolumeGroupSnapshotResponse:
        """Delete a group snapshot; an id that is none of this driver's counts as deleted."""
        group_id = convert.required("group_snapshot_id", request.group_snapshot_id)
        credentials = convert.credentials(request.secrets)
        try:
            handle = ids.parse_group(group_id)
        except errors.NotFound:
            return csi_pb2.DeleteVolumeGroupSnapshotResponse()
        configured.require(self._config, handle.cluster_id, f"group snapshot {handle}")
        self._groups.delete(handle, request.snapshot_ids, credentials)
        return csi_pb2.DeleteVolumeGroupSnapshotResponse()

    def GetVolumeGroupSnapshot(
        self, request: csi_pb2.GetVolumeGroupSnapshotRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetVolumeGroupSnapshotResponse:
        """Return a group snapshot."""
        handle = ids.parse_group(convert.required("group_snapshot_id", request.group_snapshot_id))
        configured.require_existing(self._config, handle.cluster_id, f"group snapshot {handle}")
        group = self._groups.get(handle, request.snapshot_ids, convert.credentials(request.secrets))
        return csi_pb2.GetVolumeGroupSnapshotResponse(group_snapshot=_group(group))


def _group(group: Group) -> csi_pb2.VolumeGroupSnapshot:
    """Return the message; RBD snapshots are ready as soon as they exist."""
    newest = max(each.created_ns for each in group.snapshots)
    return csi_pb2.VolumeGroupSnapshot(
        group_snapshot_id=str(group.handle),
        snapshots=[snapshot_message(each) for each in group.snapshots],
        creation_time=creation_time(newest),
        ready_to_use=True,
    )
