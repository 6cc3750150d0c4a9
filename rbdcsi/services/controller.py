"""The Controller service: each method parses the request, calls the domain once, and responds."""

from collections.abc import Callable

import grpc
from google.protobuf import wrappers_pb2

from rbdcsi import errors
from rbdcsi.api import csi_pb2
from rbdcsi.attachments.attach import Attacher
from rbdcsi.attachments.detach import Detacher, Policy
from rbdcsi.ceph import connections, locations
from rbdcsi.model import capabilities, filesystems, ids, storage_class
from rbdcsi.services import configured, convert, snapshots
from rbdcsi.volumes import capacity
from rbdcsi.volumes.create import Provisioner, Volume
from rbdcsi.volumes.delete import Deleter
from rbdcsi.volumes.expand import Expander
from rbdcsi.volumes.list import Catalogue, VolumeInfo
from rbdcsi.volumes.placement import Placement
from rbdcsi.volumes.request import Request

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
    _RPC.CLONE_VOLUME,
    _RPC.EXPAND_VOLUME,
    *snapshots.CAPABILITIES,
)


class Controller(snapshots.SnapshotCalls):
    """Serves volumes and their attachments; its base class serves their snapshots."""

    def __init__(
        self,
        pooled: connections.Connections,
        policy: Policy,
        deleted: Callable[[ids.LocationId], None],
        deep: Callable[[ids.LocationId], None],
    ) -> None:
        """Serve volumes.

        Args:
            pooled: the connections.
            policy: of detaching.
            deleted: called with its location after a deletion, when there is data to remove.
            deep: called with the location of an image that is to be flattened.
        """
        volume_locations = locations.Locations(pooled)
        super().__init__(pooled, volume_locations, deleted)
        self._connections = pooled
        self._placement = Placement(pooled, volume_locations)
        self._provisioner = Provisioner(pooled, self._placement, on_deep=deep)
        self._deleter = Deleter(pooled, volume_locations, deleted)
        self._expander = Expander(pooled, volume_locations)
        self._attacher = Attacher(pooled, volume_locations)
        self._detacher = Detacher(pooled, policy)
        self._catalogue = Catalogue(pooled, volume_locations)

    def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        """Return the supported RPCs."""
        return csi_pb2.ControllerGetCapabilitiesResponse(
            capabilities=[
                csi_pb2.ControllerServiceCapability(rpc=_RPC(type=kind)) for kind in CAPABILITIES
            ]
        )

    def CreateVolume(
        self, request: csi_pb2.CreateVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.CreateVolumeResponse:
        """Create a volume, or return the one that the same request created before."""
        name = convert.required("name", request.name)
        requested = convert.all_capabilities(request.volume_capabilities)
        if request.mutable_parameters:
            raise errors.InvalidRequest(
                "mutable_parameters: this version supports none; leave them out"
            )
        parameters = storage_class.parse(request.parameters)
        volume = self._provisioner.create(
            Request(
                name,
                request.capacity_range.required_bytes,
                request.capacity_range.limit_bytes,
                _filesystem(requested, parameters),
                parameters,
                capabilities.names_filesystem(requested, parameters.fs_type),
                convert.content_source(request),
            ),
            convert.credentials(request.secrets),
        )
        return csi_pb2.CreateVolumeResponse(volume=_volume(volume))

    def DeleteVolume(
        self, request: csi_pb2.DeleteVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.DeleteVolumeResponse:
        """Delete a volume; an id that is none of this driver's counts as deleted."""
        volume_id = convert.required("volume_id", request.volume_id)
        handle = _parsed(volume_id)
        if handle is not None:
            self._require_configured(handle)
            self._deleter.delete(handle, convert.credentials(request.secrets))
        return csi_pb2.DeleteVolumeResponse()

    def ControllerExpandVolume(
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        """Make a volume larger."""
        volume_id = convert.required("volume_id", request.volume_id)
        expanded = self._expander.expand(
            self._configured_handle(volume_id),
            request.capacity_range.required_bytes,
            request.capacity_range.limit_bytes,
            convert.optional_capability(
                request.volume_capability, present=request.HasField("volume_capability")
            ),
            convert.credentials(request.secrets),
        )
        return csi_pb2.ControllerExpandVolumeResponse(
            capacity_bytes=expanded.size, node_expansion_required=expanded.on_node
        )

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
            self._configured_handle(volume_id),
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
        if handle is not None:
            self._require_configured(handle)
            self._detacher.detach(
                handle, request.node_id, credentials=convert.credentials(request.secrets)
            )
        return csi_pb2.ControllerUnpublishVolumeResponse()

    def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        """Confirm the capabilities, or return a message that says which one the volume lacks."""
        volume_id = convert.required("volume_id", request.volume_id)
        if not request.volume_capabilities:
            raise errors.InvalidRequest("volume_capabilities is missing")
        handle = self._configured_handle(volume_id)
        info = self._catalogue.get(handle, convert.credentials(request.secrets))
        try:
            _require_filesystem(convert.all_capabilities(request.volume_capabilities), info)
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
        """List volumes with the nodes that they are attached to."""
        page = self._catalogue.page(request.max_entries, request.starting_token)
        response = csi_pb2.ListVolumesResponse(next_token=page.next_token)
        for volume in page.volumes:  # protobuf would copy each entry that its constructor is given
            entry = response.entries.add()
            entry.volume.volume_id = str(volume.handle)
            entry.status.SetInParent()  # there is a status, also without a node
            entry.status.published_node_ids.extend(volume.nodes)
        return response

    def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ControllerGetVolumeResponse:
        """Return one volume with the nodes that it is attached to."""
        volume_id = convert.required("volume_id", request.volume_id)
        info = self._catalogue.get(self._configured_handle(volume_id))
        response = csi_pb2.ControllerGetVolumeResponse
        return response(
            volume=_volume(info), status=response.VolumeStatus(published_node_ids=info.nodes)
        )

    def GetCapacity(
        self, request: csi_pb2.GetCapacityRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetCapacityResponse:
        """Return the capacity of the pool."""
        requested = tuple(convert.capability(c) for c in request.volume_capabilities)
        parameters = storage_class.parse(request.parameters)
        fs_type = _filesystem(requested, parameters)
        pool = capacity.pool_capacity(self._connections, self._placement, parameters, fs_type)
        return csi_pb2.GetCapacityResponse(
            available_capacity=pool.available,
            maximum_volume_size=wrappers_pb2.Int64Value(value=pool.largest),
            minimum_volume_size=wrappers_pb2.Int64Value(value=pool.smallest),
        )

    def _configured_handle(self, volume_id: str) -> ids.VolumeHandle:
        """Return the handle of a volume_id; raise NotFound if its cluster is not configured."""
        handle = ids.parse(volume_id)
        cluster_id = handle.location.cluster_id
        configured.require_existing(self._connections.configured, cluster_id, f"volume {handle}")
        return handle

    def _require_configured(self, handle: ids.VolumeHandle) -> None:
        """Refuse a call that would count as done although nothing was done."""
        cluster_id = handle.location.cluster_id
        configured.require(self._connections.configured, cluster_id, f"volume {handle}")


def _parsed(volume_id: str) -> ids.VolumeHandle | None:
    try:
        return ids.parse(volume_id)
    except errors.NotFound:
        return None


def _filesystem(
    requested: tuple[capabilities.Capability, ...], parameters: storage_class.Parameters
) -> str | None:
    fs_type = capabilities.filesystem(requested, parameters.fs_type)
    if fs_type is not None and fs_type not in filesystems.TABLE:
        raise errors.InvalidRequest(
            f"{storage_class.FSTYPE}: {fs_type!r} is not supported; use one of "
            + ", ".join(filesystems.TABLE)
        )
    if fs_type is not None:
        capabilities.require_mount_flags(requested, fs_type)
        capabilities.require_together(requested, fs_type)
    return fs_type


def _volume(volume: Volume | VolumeInfo) -> csi_pb2.Volume:
    return csi_pb2.Volume(
        volume_id=str(volume.handle),
        capacity_bytes=volume.size,
        volume_context={"pool": volume.pool, "imageName": volume.image},
        content_source=convert.content_source_message(_source(volume)),
    )


def _source(volume: Volume | VolumeInfo) -> str | None:
    if isinstance(volume, Volume):
        return volume.source
    return volume.spec.source if volume.spec else None


def _require_filesystem(requested: tuple[capabilities.Capability, ...], info: VolumeInfo) -> None:
    existing = info.spec.fs_type if info.spec else None
    for capability in requested:
        asked = capability.fs_type
        if asked and existing and asked != existing:
            raise errors.InvalidRequest(
                f"volume {info.handle} is for {existing}, requested is {asked}"
            )
        if not capability.block:
            fs_type = asked or existing or filesystems.DEFAULT
            capabilities.require_mount_flags((capability,), fs_type)
