"""A volume's way through the driver, one call at a time, as Kubernetes would make them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import grpc

from rbdcsi.api import csi_pb2, csi_pb2_grpc

MIB = 1 << 20
_PAUSE_SECONDS = 0.5  # before a call is repeated

Answer = TypeVar("Answer")

_Mode = csi_pb2.VolumeCapability.AccessMode


def mounted(
    fs_type: str = "ext4", mode: str = "SINGLE_NODE_WRITER", flags: Sequence[str] = ()
) -> csi_pb2.VolumeCapability:
    """Return the capability of a filesystem volume."""
    return csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(fs_type=fs_type, mount_flags=flags),
        access_mode=_Mode(mode=_Mode.Mode.Value(mode)),
    )


def raw(mode: str = "SINGLE_NODE_WRITER") -> csi_pb2.VolumeCapability:
    """Return the capability of a raw block volume."""
    return csi_pb2.VolumeCapability(
        block=csi_pb2.VolumeCapability.BlockVolume(),
        access_mode=_Mode(mode=_Mode.Mode.Value(mode)),
    )


class Node(Protocol):
    """A node plugin as the kubelet sees it: on this machine, or in a virtual one."""

    @property
    def kubelet(self) -> Path:
        """The directory that targets are below."""

    @property
    def node(self) -> csi_pb2_grpc.NodeStub:
        """The Node service."""

    def make_directory(self, path: Path) -> None:
        """Make a directory on the node's machine; one that is there is fine."""


class Controller(Protocol):
    """A controller plugin as Kubernetes' sidecars see it."""

    @property
    def controller(self) -> csi_pb2_grpc.ControllerStub:
        """The Controller service."""


@dataclass
class Volume:
    """A volume that exists, and what has been told of it."""

    id: str
    capability: csi_pb2.VolumeCapability
    size: int = 0
    context: Mapping[str, str] = field(default_factory=dict)
    publish_context: Mapping[str, str] = field(default_factory=dict)

    def staging(self, node: Node) -> Path:
        """Return the staging path at a node; made, as the kubelet does."""
        path = node.kubelet / "staging" / self.id.replace(":", "-")
        node.make_directory(path)
        return path

    def target(self, node: Node, pod: str = "pod") -> Path:
        """Return the target path for a Pod at a node; its parent is made, as the kubelet does."""
        path = node.kubelet / "pods" / pod / self.id.replace(":", "-")
        node.make_directory(path.parent)
        return path


def create(
    controller: Controller,
    name: str,
    *,
    size: int = 64 * MIB,
    limit: int = 0,
    capability: csi_pb2.VolumeCapability | None = None,
    parameters: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    source: str = "",
) -> Volume:
    """CreateVolume; sizes in bytes; `source` is the id of a volume or snapshot to be copied."""
    capability = capability or mounted()
    made = controller.controller.CreateVolume(
        csi_pb2.CreateVolumeRequest(
            name=name,
            capacity_range=csi_pb2.CapacityRange(required_bytes=size, limit_bytes=limit),
            volume_capabilities=[capability],
            parameters=parameters or {},
            secrets=secrets or {},
            volume_content_source=content_source(source) if source else None,
        )
    ).volume
    return Volume(made.volume_id, capability, made.capacity_bytes, dict(made.volume_context))


def content_source(source: str) -> csi_pb2.VolumeContentSource:
    """Return the message for the id of a volume or of a snapshot."""
    if source.startswith("s"):
        snapshot = csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=source)
        return csi_pb2.VolumeContentSource(snapshot=snapshot)
    volume = csi_pb2.VolumeContentSource.VolumeSource(volume_id=source)
    return csi_pb2.VolumeContentSource(volume=volume)


def delete(
    controller: Controller, volume: Volume, *, secrets: Mapping[str, str] | None = None
) -> None:
    """DeleteVolume."""
    controller.controller.DeleteVolume(
        csi_pb2.DeleteVolumeRequest(volume_id=volume.id, secrets=secrets or {})
    )


def attach(
    controller: Controller,
    volume: Volume,
    node_id: str,
    *,
    readonly: bool = False,
    secrets: Mapping[str, str] | None = None,
) -> None:
    """ControllerPublishVolume; keeps the publish_context with the volume."""
    answer = controller.controller.ControllerPublishVolume(
        csi_pb2.ControllerPublishVolumeRequest(
            volume_id=volume.id,
            node_id=node_id,
            volume_capability=volume.capability,
            readonly=readonly,
            volume_context=volume.context,
            secrets=secrets or {},
        )
    )
    volume.publish_context = dict(answer.publish_context)


def detach(
    controller: Controller,
    volume: Volume,
    node_id: str,
    *,
    secrets: Mapping[str, str] | None = None,
) -> None:
    """ControllerUnpublishVolume."""
    controller.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(
            volume_id=volume.id, node_id=node_id, secrets=secrets or {}
        )
    )


def stage(
    node: Node,
    volume: Volume,
    *,
    timeout: float | None = None,
    secrets: Mapping[str, str] | None = None,
) -> None:
    """NodeStageVolume."""
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id=volume.id,
        publish_context=volume.publish_context,
        staging_target_path=str(volume.staging(node)),
        volume_capability=volume.capability,
        volume_context=volume.context,
        secrets=secrets or {},
    )
    _after_reconciling(lambda: node.node.NodeStageVolume(request, timeout=timeout))


def unstage(node: Node, volume: Volume) -> None:
    """NodeUnstageVolume."""
    request = csi_pb2.NodeUnstageVolumeRequest(
        volume_id=volume.id, staging_target_path=str(volume.staging(node))
    )
    _after_reconciling(lambda: node.node.NodeUnstageVolume(request))


def publish(node: Node, volume: Volume, *, pod: str = "pod", readonly: bool = False) -> Path:
    """NodePublishVolume; returns the target path."""
    target = volume.target(node, pod)
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id=volume.id,
        publish_context=volume.publish_context,
        staging_target_path=str(volume.staging(node)),
        target_path=str(target),
        volume_capability=volume.capability,
        readonly=readonly,
        volume_context=volume.context,
    )
    _after_reconciling(lambda: node.node.NodePublishVolume(request))
    return target


def unpublish(node: Node, volume: Volume, *, pod: str = "pod") -> None:
    """NodeUnpublishVolume."""
    request = csi_pb2.NodeUnpublishVolumeRequest(
        volume_id=volume.id, target_path=str(volume.target(node, pod))
    )
    _after_reconciling(lambda: node.node.NodeUnpublishVolume(request))


def expand(
    controller: Controller,
    volume: Volume,
    size: int,
    *,
    limit: int = 0,
    secrets: Mapping[str, str] | None = None,
) -> csi_pb2.ControllerExpandVolumeResponse:
    """ControllerExpandVolume; sizes in bytes."""
    return controller.controller.ControllerExpandVolume(
        csi_pb2.ControllerExpandVolumeRequest(
            volume_id=volume.id,
            capacity_range=csi_pb2.CapacityRange(required_bytes=size, limit_bytes=limit),
            volume_capability=volume.capability,
            secrets=secrets or {},
        )
    )


def expand_on_node(
    node: Node,
    volume: Volume,
    size: int = 0,
    *,
    path: Path | None = None,
    timeout: float | None = None,
    secrets: Mapping[str, str] | None = None,
) -> int:
    """NodeExpandVolume, by default at the staging path; returns the size in bytes."""
    request = csi_pb2.NodeExpandVolumeRequest(
        volume_id=volume.id,
        volume_path=str(path or volume.staging(node)),
        capacity_range=csi_pb2.CapacityRange(required_bytes=size),
        staging_target_path=str(volume.staging(node)),
        volume_capability=volume.capability,
        secrets=secrets or {},
    )
    answer = _after_reconciling(lambda: node.node.NodeExpandVolume(request, timeout=timeout))
    return answer.capacity_bytes


def until_let_through(
    call: Callable[[], Answer],
    seconds: float = 60,
    *,
    among: Callable[[grpc.RpcError], bool] = lambda _: True,
    pause: float = _PAUSE_SECONDS,
) -> Answer:
    """Repeat a call that is refused, as an orchestrator does; return its answer.

    Args:
        call: the call.
        seconds: after them, its error passes through.
        among: whether a refusal is one of those after which the call is repeated; by default all.
        pause: seconds between two calls.
    """
    ends_at = time.monotonic() + seconds
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if not among(error) or time.monotonic() > ends_at:
                raise
            time.sleep(pause)


def _after_reconciling(call: Callable[[], Answer]) -> Answer:
    """Make a call, again if it met the plugin's own work on the volume; returns its answer."""
    return until_let_through(call, among=lambda error: "reconciling volume" in str(error))
