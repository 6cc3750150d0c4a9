"""Takes down the volumes that a failed test left, so that the tests after it can pass."""

import contextlib

import grpc

from e2e import groups, snapshots
from e2e.driver import Driver
from rbdcsi.api import csi_pb2


def take_down(controller: Driver, left: str) -> None:
    """Delete the volumes whose images are left, with their snapshots, as an orchestrator would.

    Args:
        controller: a running one.
        left: what the test left (`leftovers.difference`); other volumes are those of the module.
    """
    entries = controller.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    ids = [each.volume.volume_id for each in entries]
    ids = [each for each in ids if f"/{_image(controller, each)}\n" in f"{left}\n"]
    for taken in list(snapshots.listed(controller)):
        if taken.source_volume_id in ids:
            with contextlib.suppress(grpc.RpcError):
                if taken.group_snapshot_id:
                    groups.delete(controller, taken.group_snapshot_id)
                else:
                    snapshots.delete(controller, taken.snapshot_id)
    for volume_id in ids:
        with contextlib.suppress(grpc.RpcError):
            controller.controller.ControllerUnpublishVolume(
                csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume_id)
            )
            controller.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))


def _image(controller: Driver, volume_id: str) -> str:
    """Return the name of a volume's image; empty if it cannot be read."""
    request = csi_pb2.ControllerGetVolumeRequest(volume_id=volume_id)
    with contextlib.suppress(grpc.RpcError):
        return controller.controller.ControllerGetVolume(request).volume.volume_context["imageName"]
    return ""
