"""Thaws a filesystem that an earlier process of this plugin may have left frozen."""

from collections.abc import Iterator

import structlog

from rbdcsi import errors
from rbdcsi.host.fs import freeze, mountinfo
from rbdcsi.model import ids
from rbdcsi.staging.freeze_marks import FreezeMark
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.telemetry import steps

_log = structlog.get_logger()


def thaw_left(node: ThisNode, handle: ids.VolumeHandle) -> None:
    """Thaw the volume's filesystem if it has a mark, and remove the mark.

    The caller holds the volume's lock. A filesystem that is not frozen stays as it is.

    Raises:
        Busy: the child that freezes it lives, or another mount hides all of its mounts.
        Failed, DeadlineExceeded, ChildStuck: it may still be frozen.
    """
    with node.freeze_marks.read(handle) as mark:
        if mark is None:
            return
        _log.info("thawing what may be frozen", volume=str(handle), device=mark.device)
        _thaw(node, handle, list(_mounts(node, mark)))
        node.freeze_marks.remove(handle)
    steps.done("freeze.thaw_left", volume=str(handle))


def _mounts(node: ThisNode, mark: FreezeMark) -> Iterator[mountinfo.MountEntry]:
    for entry in node.mounts.mounts_below(node.kubelet_dir):
        if entry.source == mark.device:
            yield entry


def _thaw(node: ThisNode, handle: ids.VolumeHandle, entries: list[mountinfo.MountEntry]) -> None:
    """Thaw the filesystem by any of its mounts; one without a mount has ended."""
    hidden: errors.RbdCsiError | None = None
    for entry in entries:
        try:
            with node.mounts.opened(entry) as mount:
                freeze.thaw(mount)
                return
        except (errors.Busy, errors.NotFound, errors.InvalidRequest) as error:
            if isinstance(error, errors.ChildAlive):
                raise
            hidden = error
    if hidden:
        raise errors.Busy(
            f"the filesystem of volume {handle} may be frozen, and cannot be thawed, as other "
            f"mounts hide its own ({hidden}); `fsfreeze --unfreeze` at one of them thaws it"
        ) from hidden
