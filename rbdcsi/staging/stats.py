"""NodeGetVolumeStats: how full a published volume is."""

import contextlib
from pathlib import Path

from rbdcsi import errors
from rbdcsi.host.block import devices
from rbdcsi.host.fs import filesystems
from rbdcsi.model import ids
from rbdcsi.staging.device_stack import require_working, shows
from rbdcsi.staging.this_node import ThisNode

_STATS_SECONDS = 5.0


def usage(node: ThisNode, handle: ids.VolumeHandle, path: Path) -> filesystems.Usage | int:
    """Return how full the filesystem of a volume is, or the size of a block volume in bytes.

    Args:
        node: this node.
        handle: the volume.
        path: where the volume is staged or published.

    Raises:
        NotFound: the volume is not at that path.
        DeadlineExceeded: the filesystem does not answer.
    """
    device = node.devices.find(handle)
    entry = None
    with contextlib.suppress(errors.InvalidRequest):  # volumes are never at such a path
        entry = node.mounts.mount_at(path)
    not_mounted = errors.NotFound(f"volume {handle} is not mounted at {path}")
    if entry is None or device is None:
        raise not_mounted
    if entry.source == str(device.path):
        try:
            return filesystems.usage(path, seconds=_STATS_SECONDS)
        finally:
            # If the volume was unpublished during the call, the host's own disk was measured.
            if node.mounts.mount_at(path) != entry:
                raise not_mounted
    require_working(device)
    if not shows(entry, device):
        raise errors.NotFound(f"{path} is no mount of volume {handle} ({device.path})")
    return devices.size(device.path)
