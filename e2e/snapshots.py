"""A snapshot's way through the driver, one call at a time, as Kubernetes would make them."""

from collections.abc import Iterator, Mapping

from e2e.volume import Controller
from rbdcsi.api import csi_pb2


def create(
    controller: Controller,
    name: str,
    source: str,
    *,
    parameters: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> csi_pb2.Snapshot:
    """CreateSnapshot; `source` is the id of a volume."""
    return controller.controller.CreateSnapshot(
        csi_pb2.CreateSnapshotRequest(
            name=name,
            source_volume_id=source,
            parameters=parameters or {},
            secrets=secrets or {},
        )
    ).snapshot


def delete(
    controller: Controller, snapshot_id: str, *, secrets: Mapping[str, str] | None = None
) -> None:
    """DeleteSnapshot."""
    controller.controller.DeleteSnapshot(
        csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id, secrets=secrets or {})
    )


def listed(
    controller: Controller,
    *,
    source: str = "",
    snapshot_id: str = "",
    most: int = 0,
    secrets: Mapping[str, str] | None = None,
) -> Iterator[csi_pb2.Snapshot]:
    """ListSnapshots, page by page; `most` entries on each, 0 takes the driver's own limit."""
    token = ""
    while True:
        page = controller.controller.ListSnapshots(
            csi_pb2.ListSnapshotsRequest(
                source_volume_id=source,
                snapshot_id=snapshot_id,
                max_entries=most,
                starting_token=token,
                secrets=secrets or {},
            )
        )
        yield from (entry.snapshot for entry in page.entries)
        token = page.next_token
        if not token:
            return


def get(controller: Controller, snapshot_id: str) -> csi_pb2.Snapshot:
    """GetSnapshot."""
    request = csi_pb2.GetSnapshotRequest(snapshot_id=snapshot_id)
    return controller.controller.GetSnapshot(request).snapshot
