"""The Identity service."""

import grpc
from google.protobuf import wrappers_pb2

import rbdcsi
from rbdcsi.api import csi_pb2, csi_pb2_grpc
from rbdcsi.ceph import probe
from rbdcsi.nodes.heartbeat import Registration

_Service = csi_pb2.PluginCapability.Service
_Expansion = csi_pb2.PluginCapability.VolumeExpansion

CAPABILITIES = (
    _Service.CONTROLLER_SERVICE,
    _Service.GROUP_CONTROLLER_SERVICE,
    _Service.SNAPSHOT_METADATA_SERVICE,
)


class Identity(csi_pb2_grpc.IdentityServicer):
    """Serves the plugin's name, capabilities and readiness."""

    def __init__(self, clusters: probe.Readiness, registration: Registration | None) -> None:
        """Serve readiness by the clusters, and by the node's registration if this is a node."""
        self._clusters = clusters
        self._registration = registration

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
        """Return the capabilities of the plugin as a whole, the same from controller and node.

        ONLINE includes volumes that are not published; OFFLINE would exclude those that are (CSI:
        PluginCapability.VolumeExpansion).
        """
        capability = csi_pb2.PluginCapability
        return csi_pb2.GetPluginCapabilitiesResponse(
            capabilities=[
                *(capability(service=_Service(type=kind)) for kind in CAPABILITIES),
                capability(volume_expansion=_Expansion(type=_Expansion.ONLINE)),
            ]
        )

    def Probe(
        self, request: csi_pb2.ProbeRequest, context: grpc.ServicerContext
    ) -> csi_pb2.ProbeResponse:
        """Return ready if a configured cluster answers: its volumes can be served.

        A node is not ready while its id belongs to another machine.
        """
        refused = self._registration is not None and self._registration.is_refused()
        ready = self._clusters.check() and not refused
        return csi_pb2.ProbeResponse(ready=wrappers_pb2.BoolValue(value=ready))
