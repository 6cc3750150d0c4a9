"""The Controller service: request to record, one domain call, record to response."""

from collections.abc import Callable

import grpc
from google.protobuf import wrappers_pb2

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.attachments.attach import Attacher
from rbdcsi.attachments.detach import Detacher
from rbdcsi.ceph import connections, locations
from rbdcsi.model import capabilities, filesystems, ids, storage_class
from rbdcsi.services import convert
from rbdcsi.volumes import capacity
from rbdcsi.volumes.create import Provisioner, Request, Volume
from rbdcsi.volumes.delete import Deleter
from rbdcsi.volumes.list import Catalogue, Found
from rbdcsi.volumes.placement import Placement

_RPC = csi_pb2.ControllerServiceCapability.RPC

CAPABILITIES = (
    _RPC.CREATE_DELETE_VOLUME,
    _RPC.PUBLISH_UNPUBLISH_VOLUME,
    _RPC.LIST_VOLUMES,
    _RPC.LIST_VOLUMES_PUBLISHED_NODES,
    _RPC.GET_CAPACITY,
    _RPC.GET_VOLUME,
    _RPC.PUBLISH_READONLY,
    _RPC.SINGLE_NODE_MULTI_WRITER,
)


class Controller(csi_pb2_grpc.ControllerServicer):
    """Volumes and their attachments."""

    def __init__(self, pooled: connections.Connections, deleted: Callable[[], None]) -> None:
        """Serve from these connections, and tell `deleted` when there is data to remove."""
        self._connections = pooled
        self._placement = Placement(pooled)
        located = locations.Locations(pooled)
        self._provisioner = Provisioner(pooled, self._placement)
        self._deleter = Deleter(pooled, located, deleted)
        self._attacher = Attacher(pooled, located)
        self._detacher = Detacher(pooled)
        self._catalogue = Catalogue(pooled, located)

    def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Return what is served."""
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[
                csi_pb2.ControllerServiceCapability(rpc=_RPC(type=kind)) for kind in CAPABILITIES
            ]
        )

    def CreateVolume(
        self, request: csi_pb2.CreateVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.CreateVolumeResponse:
        """Create an image, or recognise the one that this request made before."""
        name = convert.required("name", request.name)
        wanted = convert.all_capabilities(request.volume_capabilities)
        if request.HasField("volume_content_source"):
            raise errors.InvalidRequest(
                "volume_content_source: this version makes empty volumes only, not copies of "
                "snapshots or volumes"
            )
        if request.mutable_parameters:
            raise errors.InvalidRequest("mutable_parameters: this version has none; leave them out")
        given = storage_class.parse(request.parameters)
        volume = self._provisioner.create(
            Request(
                name,
                request.capacity_range.required_bytes,
                request.capacity_range.limit_bytes,
                _filesystem(wanted, given),
                given,
            ),
            convert.credentials(request.secrets),
        )
        return csi_pb2.CreateVolumeResponse(volume=_volume(volume))

    def DeleteVolume(
        self, request: csi_pb2.DeleteVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.DeleteVolumeResponse:
        """Delete a volume; what is no volume of ours is gone already."""
        volume_id = convert.required("volume_id", request.volume_id)
        handle = _parsed(volume_id)
        if handle is not None and self._knows(handle):
            self._deleter.delete(handle, convert.credentials(request.secrets))
        return csi_pb2.DeleteVolumeResponse()

    def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        """Attach a volume to a node."""
        volume_id = convert.required("volume_id", request.volume_id)
        node_id = convert.required("node_id", request.node_id)
        capability = convert.required_capability(
            request.volume_capability, present=request.HasField("volume_capability")
        )
        generation = self._attacher.attach(
            self._known(volume_id),
            node_id,
            capability,
            readonly=request.readonly,
            credentials=convert.credentials(request.secrets),
        )
        return csi_pb2.ControllerPublishVolumeResponse(
            publish_context={convert.GENERATION: str(generation)}
        )

    def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        """Detach a volume from a node, or from every node."""
        volume_id = convert.required("volume_id", request.volume_id)
        handle = _parsed(volume_id)
        if handle is not None and self._knows(handle):
            self._detacher.detach(
                handle, request.node_id, credentials=convert.credentials(request.secrets)
            )
        return csi_pb2.ControllerUnpublishVolumeResponse()

    def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Confirm what the volume can do, or say what it cannot."""
        volume_id = convert.required("volume_id", request.volume_id)
        if not request.volume_capabilities:
            raise errors.InvalidRequest("volume_capabilities is missing")
        found = self._catalogue.get(self._known(volume_id), convert.credentials(request.secrets))
        try:
            _require_served(convert.all_capabilities(request.volume_capabilities), found)
        except errors.InvalidRequest as error:
            return csi_pb2.ValidateVolumeCapabilitiesResponse(message=str(error))
        return csi_pb2.ValidateVolumeCapabilitiesResponse(
            confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
            )
        )

    def ListVolumes(
        self, request: csi_pb2.ListVolumesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ListVolumesResponse:
        """List volumes with the nodes that have them."""
        page = self._catalogue.page(request.max_entries, request.starting_token)
        listed = csi_pb2.ListVolumesResponse
        return listed(
            entries=[
                listed.Entry(
                    volume=csi_pb2.Volume(volume_id=str(volume.handle)),
                    status=listed.VolumeStatus(published_node_ids=volume.nodes),
                )
                for volume in page.volumes
            ],
            next_token=page.next_token,
        )

    def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerGetVolumeResponse:
        """Return one volume with its nodes."""
        volume_id = convert.required("volume_id", request.volume_id)
        found = self._catalogue.get(self._known(volume_id))
        answer = csi_pb2.ControllerGetVolumeResponse
        return answer(
            volume=_volume(found), status=answer.VolumeStatus(published_node_ids=found.nodes)
        )

    def GetCapacity(
        self, request: csi_pb2.GetCapacityRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetCapacityResponse:
        """Return what the pool can still take."""
        wanted = tuple(convert.capability(c) for c in request.volume_capabilities)
        given = storage_class.parse(request.parameters)
        found = capacity.of(self._connections, self._placement, given, _filesystem(wanted, given))
        return csi_pb2.GetCapacityResponse(
            available_capacity=found.available,
            maximum_volume_size=wrappers_pb2.Int64Value(value=found.largest),
            minimum_volume_size=wrappers_pb2.Int64Value(value=found.smallest),
        )

    def _known(self, volume_id: str) -> ids.VolumeHandle:
        """Read a volume_id; one of a cluster that is not configured names no volume of ours."""
        handle = ids.parse(volume_id)
        if not self._knows(handle):
            raise errors.NotFound(
                f"volume {handle} does not exist: its cluster {handle.location.cluster_id} is not "
                "in the driver's configuration"
            )
        return handle

    def _knows(self, handle: ids.VolumeHandle) -> bool:
        clusters = self._connections.configured.clusters
        return any(c.cluster_id == handle.location.cluster_id for c in clusters)


def _parsed(volume_id: str) -> ids.VolumeHandle | None:
    try:
        return ids.parse(volume_id)
    except errors.NotFound:
        return None


def _filesystem(
    wanted: tuple[capabilities.Capability, ...], given: storage_class.Parameters
) -> str | None:
    fs_type = capabilities.filesystem(wanted, given.fs_type)
    if fs_type is not None and fs_type not in filesystems.TABLE:
        raise errors.InvalidRequest(
            f"{storage_class.FSTYPE}: {fs_type!r} is not supported; use one of "
            + ", ".join(filesystems.TABLE)
        )
    return fs_type


def _volume(volume: Volume | Found) -> csi_pb2.Volume:
    return csi_pb2.Volume(
        volume_id=str(volume.handle),
        capacity_bytes=volume.size,
        volume_context={"pool": volume.pool, "imageName": volume.image},
    )


def _require_served(wanted: tuple[capabilities.Capability, ...], found: Found) -> None:
    made_for = found.spec.fs_type if found.spec else None
    for capability in wanted:
        asked = capability.fs_type
        if asked and made_for and asked != made_for:
            raise errors.InvalidRequest(
                f"volume {found.handle} is for {made_for}, asked is {asked}"
            )
