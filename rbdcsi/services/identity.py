"""The Identity service."""

import grpc
from google.protobuf import wrappers_pb2

import rbdcsi
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.ceph import readiness

_Service = csi_pb2.PluginCapability.Service


class Identity(csi_pb2_grpc.IdentityServicer):
    """Who the plugin is, and whether it is ready."""

    def __init__(self, clusters: readiness.Readiness, *, controller: bool) -> None:
        self._clusters = clusters
        self._controller = controller

    def GetPluginInfo(
        self, request: csi_pb2.GetPluginInfoRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetPluginInfoResponse:
        """Return the driver's name and version."""
        return csi_pb2.GetPluginInfoResponse(
            name=rbdcsi.DRIVER_NAME, vendor_version=rbdcsi.__version__
        )

    def GetPluginCapabilities(
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: grpc.ServicerContext
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """Say that there is a controller service where there is one."""
        offered = [_Service.CONTROLLER_SERVICE] if self._controller else []
        return csi_pb2.GetPluginCapabilitiesResponse(
            capabilities=[csi_pb2.PluginCapability(service=_Service(type=kind)) for kind in offered]
        )

    def Probe(
        self, request: csi_pb2.ProbeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ProbeResponse:
        """Say ready when every configured cluster answers."""
        return csi_pb2.ProbeResponse(ready=wrappers_pb2.BoolValue(value=self._clusters.check()))
