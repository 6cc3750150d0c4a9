"""The Node service: each method parses the request, calls the domain once, and responds."""

from collections.abc import Mapping
from pathlib import Path

import grpc

from rbdcsi import errors
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.host.fs import filesystems
from rbdcsi.model import ids
from rbdcsi.nodes.heartbeat import Registration
from rbdcsi.services import convert
from rbdcsi.staging import stats
from rbdcsi.staging.expand import Expander, ExpandRequest
from rbdcsi.staging.publish import Publisher, PublishRequest
from rbdcsi.staging.stage import Stager
from rbdcsi.staging.stage_call import StageRequest
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.staging.unstage import Unstager
from rbdcsi.telemetry import metrics

_RPC = csi_pb2.NodeServiceCapability.RPC

CAPABILITIES = (
    _RPC.STAGE_UNSTAGE_VOLUME,
    _RPC.GET_VOLUME_STATS,
    _RPC.SINGLE_NODE_MULTI_WRITER,
    _RPC.EXPAND_VOLUME,
)


class Node(csi_pb2_grpc.NodeServicer):
    """Serves volumes on this node."""

    def __init__(
        self,
        node: ThisNode,
        registration: Registration,
        max_volumes: int,
        topology: Mapping[str, str],
    ) -> None:
        """Serve this node.

        Args:
            node: the node.
            registration: of the node; it refuses while another machine has the node's id.
            max_volumes: the most volumes that it may hold; 0 is no limit.
            topology: where it is.
        """
        for reason in errors.refusal_reasons():  # each from 0: Prometheus sees the first one
            metrics.REFUSED.labels("NodeStageVolume", reason)
        self._node = node
        self._registration = registration
        self._stager = Stager(node)
        self._unstager = Unstager(node)
        self._publisher = Publisher(node)
        self._expander = Expander(node)
        self._info = csi_pb2.NodeGetInfoResponse(
            node_id=node.node_id, max_volumes_per_node=max_volumes
        )
        if topology:
            self._info.accessible_topology.segments.update(topology)

    def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        """Return the supported RPCs."""
        return csi_pb2.NodeGetCapabilitiesResponse(
            capabilities=[
                csi_pb2.NodeServiceCapability(rpc=_RPC(type=kind)) for kind in CAPABILITIES
            ]
        )

    def NodeGetInfo(
        self, request: csi_pb2.NodeGetInfoRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetInfoResponse:
        """Return this node's id, limit and topology."""
        self._registration.require()
        return self._info

    def NodeStageVolume(
        self, request: csi_pb2.NodeStageVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeStageVolumeResponse:
        """Map a volume and mount it at the staging path."""
        self._registration.require()
        volume_id = convert.required("volume_id", request.volume_id)
        staging_path = convert.required("staging_target_path", request.staging_target_path)
        capability = convert.required_capability(
            request.volume_capability, present=request.HasField("volume_capability")
        )
        self._stager.stage(
            StageRequest(
                ids.parse(volume_id),
                Path(staging_path),
                capability,
                convert.generation(request.publish_context),
            ),
            convert.credentials(request.secrets),
        )
        return csi_pb2.NodeStageVolumeResponse()

    def NodeUnstageVolume(
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        """Unmount a volume from the staging path and unmap it."""
        volume_id = convert.required("volume_id", request.volume_id)
        staging_path = convert.required("staging_target_path", request.staging_target_path)
        self._unstager.unstage(ids.parse(volume_id), Path(staging_path))
        return csi_pb2.NodeUnstageVolumeResponse()

    def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodePublishVolumeResponse:
        """Bind a staged volume to the target path."""
        volume_id = convert.required("volume_id", request.volume_id)
        target_path = convert.required("target_path", request.target_path)
        capability = convert.required_capability(
            request.volume_capability, present=request.HasField("volume_capability")
        )
        if not request.staging_target_path:
            raise errors.Refused("staging_target_path is missing; NodeStageVolume must come first")
        self._publisher.publish(
            PublishRequest(
                ids.parse(volume_id),
                Path(request.staging_target_path),
                Path(target_path),
                capability,
                request.readonly or capability.mode.reader_only,
            )
        )
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        """Unmount a volume from the target path."""
        convert.required("volume_id", request.volume_id)
        target_path = convert.required("target_path", request.target_path)
        self._publisher.unpublish(Path(target_path))
        return csi_pb2.NodeUnpublishVolumeResponse()

    def NodeExpandVolume(
        self, request: csi_pb2.NodeExpandVolumeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeExpandVolumeResponse:
        """Make the device and the filesystem of a staged volume as large as the volume."""
        volume_id = convert.required("volume_id", request.volume_id)
        path, staging_path = request.volume_path, request.staging_target_path
        size = self._expander.expand(
            ExpandRequest(
                ids.parse(volume_id),
                Path(convert.required("volume_path", path)),
                Path(staging_path) if staging_path else None,
                request.capacity_range.required_bytes,
                request.capacity_range.limit_bytes,
            ),
            convert.credentials(request.secrets),
        )
        return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=size)

    def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: grpc.ServicerContext
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """Return the size and usage of a published volume."""
        volume_id = convert.required("volume_id", request.volume_id)
        path = convert.required("volume_path", request.volume_path)
        usage = stats.usage(self._node, ids.parse(volume_id), Path(path))
        return csi_pb2.NodeGetVolumeStatsResponse(usage=_usage(usage))


def _usage(usage: filesystems.Usage | int) -> list[csi_pb2.VolumeUsage]:
    unit = csi_pb2.VolumeUsage
    if isinstance(usage, int):
        return [unit(unit=unit.BYTES, total=usage)]
    return [
        unit(unit=unit.BYTES, total=usage.total, available=usage.available, used=usage.used),
        unit(
            unit=unit.INODES,
            total=usage.inodes,
            available=usage.inodes_free,
            used=usage.inodes_used,
        ),
    ]
