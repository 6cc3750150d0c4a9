"""A group snapshot's way through the driver, one call at a time, as Kubernetes would make them."""

from collections.abc import Mapping, Sequence

from e2e.driver import Driver
from rbdcsi.api import csi_pb2


def create(
    controller: Driver,
    name: str,
    sources: Sequence[str],
    *,
    parameters: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> csi_pb2.VolumeGroupSnapshot:
    """CreateVolumeGroupSnapshot; `sources` are the ids of volumes."""
    return controller.group_controller.CreateVolumeGroupSnapshot(
        csi_pb2.CreateVolumeGroupSnapshotRequest(
            name=name,
            source_volume_ids=sources,
            parameters=parameters or {},
            secrets=secrets or {},
        )
    ).group_snapshot


def get(
    controller: Driver,
    group_id: str,
    members: Sequence[str] = (),
    *,
    secrets: Mapping[str, str] | None = None,
) -> csi_pb2.VolumeGroupSnapshot:
    """GetVolumeGroupSnapshot."""
    request = csi_pb2.GetVolumeGroupSnapshotRequest(
        group_snapshot_id=group_id, snapshot_ids=members, secrets=secrets or {}
    )
    return controller.group_controller.GetVolumeGroupSnapshot(request).group_snapshot


def delete(
    controller: Driver,
    group_id: str,
    members: Sequence[str] = (),
    *,
    secrets: Mapping[str, str] | None = None,
) -> None:
    """DeleteVolumeGroupSnapshot."""
    controller.group_controller.DeleteVolumeGroupSnapshot(
        csi_pb2.DeleteVolumeGroupSnapshotRequest(
            group_snapshot_id=group_id, snapshot_ids=members, secrets=secrets or {}
        )
    )
