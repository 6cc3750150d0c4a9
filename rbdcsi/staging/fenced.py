"""Devices whose Ceph client is fenced: all that shows them is unmounted, and they are unmapped."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.ceph.connection import Connection
from rbdcsi.host.mappers.interface import MappedDevice
from rbdcsi.model import ids
from rbdcsi.runtime import clock
from rbdcsi.staging.device_stack import belongs_to, shows
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import MOUNT_SECONDS, ThisNode
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()


def fences_of(node: ThisNode, connection: Connection) -> Iterator[Fence]:
    """Yield the fences of this machine's clients that this node has not reported as gone.

    A damaged fence is logged and skipped.
    """
    for fence in Fences(connection.home()).all():
        if isinstance(fence, errors.Failed):
            _log.warning("skipped a damaged fence", error=str(fence))
        elif fence.gone is None and fence.epoch and _is_here(node, fence):
            yield fence


def _is_here(node: ThisNode, fence: Fence) -> bool:
    if fence.machine_id:
        return fence.machine_id == node.machine.machine_id
    return fence.node_id == node.node_id


def discard(node: ThisNode, connection: Connection, fence: Fence) -> None:
    """Remove the fenced client's device with its mounts, and report that the client is gone.

    The caller holds the volume's lock.

    Args:
        node: this node.
        connection: to the cluster.
        fence: one of `fences_of`.

    Raises:
        CommandStuck: an unmount does not end.
        Others: see `Mapper.discard`.
    """
    handle = ids.parse(fence.volume)
    _thaw(node, handle)
    for each in node.devices.all():  # the note may be about a newer one
        if each.client == fence.address and belongs_to(each, handle, connection.fsid):
            _discard(node, handle, each, fence)
    device, note = node.devices.find(handle), node.devices.note(handle)
    client = (device.client if device else None) or (note.client if note else None)
    # A read-only device may need no client; then it is of a later attachment.
    is_other = device is not None and device.readonly and note is not None and client is None
    if client in {fence.address, None} and not is_other:
        if device:
            _discard(node, handle, device, fence)
        else:
            node.devices.clear(handle, connection.fsid)
        node.devices.notes.remove(handle)
    reported = dataclasses.replace(fence, gone=clock.now())
    Fences(connection.home()).change(fence, reported)
    steps.done("fence.gone", volume=fence.volume, client=fence.address)


def _thaw(node: ThisNode, handle: ids.VolumeHandle) -> None:
    """Thaw the filesystem if that is possible; one whose disk hangs is discarded all the same."""
    try:
        thaw_left(node, handle)
    except errors.RbdCsiError as error:
        _log.warning("not thawed before its end", volume=str(handle), error=str(error))


def _discard(node: ThisNode, handle: ids.VolumeHandle, device: MappedDevice, fence: Fence) -> None:
    targets = [each.target for each in node.mounts.all_mounts() if shows(each, device)]
    _log.warning(
        "unmapping a device whose client is fenced; its workloads get errors",
        volume=str(handle),
        device=str(device.path),
        client=fence.address,
        since=fence.since,
        mounts=[str(target) for target in targets],
    )
    for target in reversed(targets):
        if _is_below(target, node.kubelet_dir):
            node.mounts.detach(target, seconds=MOUNT_SECONDS)
    steps.done("fence.unmount", volume=str(handle))
    node.devices.discard(device)
    steps.done("fence.unmap", volume=str(handle), device=str(device.path))
    metrics.DISCARDED.labels(handle.location.cluster_id).inc()


def _is_below(target: Path, directory: Path) -> bool:
    return target.is_relative_to(directory.resolve())
