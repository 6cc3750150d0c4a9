"""Freezes filesystems of this node for snapshots, by order of a controller.

A thread for each freeze holds the volume's lock from before it until after the thaw, so no call
mounts, unmounts or grows what is frozen. Whatever dies, the filesystem is thawed:

- the controller, or the network to it: the child does it at its time limit;
- this plugin: the child does it at once, because its input ends;
- the child: this plugin does it;
- both: the next plugin does it, because the volume has a mark (`thaw.py`).
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from rbdcsi import errors
from rbdcsi.host.fs import mountinfo
from rbdcsi.host.fs.freeze import Freeze, Thawed
from rbdcsi.model import ids
from rbdcsi.nodes.freeze_messages import FROZEN_SECONDS, FreezeAnswer, FreezeOrder, FreezeState
from rbdcsi.staging.device_stack import require_working, shows
from rbdcsi.staging.thaw import thaw_left
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.telemetry import metrics, steps

_log = structlog.get_logger()

_KEPT_SECONDS = 60.0  # the result of a freeze, for a controller whose answer was lost
Hold = Callable[[ids.VolumeHandle], contextlib.AbstractContextManager[None]]
_HELD, _LOST = "held", "lost"


class Freezer:
    """Freezes volumes of one node."""

    def __init__(self, node: ThisNode, group: Path | None, hold: Hold) -> None:
        """Freeze volumes.

        Args:
            node: this node.
            group: the control group of children that outlive the plugin's container, or None.
            hold: keeps calls off a volume or raises Busy.
        """
        self._node = node
        self._group = group
        self._hold = hold
        self._mutex = threading.Lock()
        self._running: dict[str, _Running] = {}  # by token
        for result in (_HELD, _LOST):
            metrics.FROZEN_SECONDS.labels(result)  # from 0: Prometheus sees the first one

    def obey(self, order: FreezeOrder) -> FreezeAnswer:
        """Begin what is ordered, and return the state so far.

        No call of Ceph, no child process, and no wait for a disk, so a thread of librados may ask.
        """
        with self._mutex:
            self._forget_old()
            running = self._running.get(order.token)
            if running is None and not order.thaw:
                running = _Running(self._node, self._group, self._hold, ids.parse(order.volume))
                self._running[order.token] = running
                running.start()
        if running is None:
            return FreezeAnswer(FreezeState.LOST, "the node plugin was restarted since")
        if order.thaw:
            running.thaw()
        return running.answer

    def _forget_old(self) -> None:
        now = time.monotonic()
        for token, running in list(self._running.items()):
            if running.ended_at and now - running.ended_at > _KEPT_SECONDS:
                del self._running[token]


class _Running:
    """One freeze, and the thread that sees to it until the filesystem is thawed."""

    def __init__(
        self, node: ThisNode, group: Path | None, hold: Hold, handle: ids.VolumeHandle
    ) -> None:
        self.answer = FreezeAnswer(FreezeState.FREEZING)
        self.ended_at: float | None = None  # monotonic
        self._node, self._group, self._hold, self._handle = node, group, hold, handle
        self._mutex = threading.Lock()
        self._thaw_ordered = False
        self._freeze: Freeze | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="freeze", daemon=True).start()

    def thaw(self) -> None:
        with self._mutex:
            self._thaw_ordered = True
            if self._freeze:
                self._freeze.thaw()

    def _run(self) -> None:
        try:
            with self._hold(self._handle):
                thaw_left(self._node, self._handle)
                answer = self._freeze_and_thaw()
        except errors.Busy as error:
            answer = FreezeAnswer(FreezeState.BUSY, str(error))
        except Exception as error:  # noqa: BLE001  the controller gets it
            _log.warning("not frozen", volume=str(self._handle), error=str(error))
            answer = FreezeAnswer(FreezeState.REFUSED, str(error))
        self.answer, self.ended_at = answer, time.monotonic()

    def _freeze_and_thaw(self) -> FreezeAnswer:
        handle, marks = self._handle, self._node.freeze_marks
        entry = _mount_of(self._node, handle)
        device = Path(entry.source)
        with self._node.mounts.opened(entry) as mount, marks.write(handle, device) as fd:
            steps.done("freeze.mark", volume=str(handle))
            freeze = Freeze(mount, FROZEN_SECONDS, pass_fds=(fd,), group=self._group)
        thawed = None
        try:
            self._began(freeze)
            if freeze.wait_until_frozen():
                steps.done("freeze.freeze", volume=str(handle), path=str(entry.target))
                self.answer = FreezeAnswer(FreezeState.FROZEN)
                thawed = freeze.wait_until_thawed()
        finally:
            if freeze.end():
                marks.remove(handle)
            else:
                thaw_left(self._node, handle)
        return self._result(thawed)

    def _began(self, freeze: Freeze) -> None:
        with self._mutex:
            self._freeze = freeze
            if self._thaw_ordered:
                freeze.thaw()

    def _result(self, thawed: Thawed | None) -> FreezeAnswer:
        steps.done("freeze.thaw", volume=str(self._handle))
        if thawed:
            result = _HELD if thawed.was_frozen else _LOST
            metrics.FROZEN_SECONDS.labels(result).observe(thawed.seconds)
            if thawed.was_frozen:
                return FreezeAnswer(FreezeState.HELD)
            return FreezeAnswer(FreezeState.LOST, f"it was thawed after {thawed.seconds:.1f} s")
        return FreezeAnswer(FreezeState.LOST, "the process that held it ended")


def _mount_of(node: ThisNode, handle: ids.VolumeHandle) -> mountinfo.MountEntry:
    """Return the mount by which the volume's filesystem is frozen.

    Raises:
        Busy: the volume is not mounted here, or not yet.
        Refused: it is a raw block volume, or its device does not work any more.
    """
    device = node.devices.find(handle)
    entries = [e for e in node.mounts.mounts_below(node.kubelet_dir) if device and shows(e, device)]
    if device is None or not entries:
        raise errors.Busy(
            f"volume {handle} is recorded as staged at node {node.node_id!r}, and is not mounted "
            "there; it is just being staged or unstaged"
        )
    require_working(device)
    mounts = [entry for entry in entries if entry.source == str(device.path)]
    if mounts:
        return min(mounts, key=lambda entry: entry.root != "/")  # a Pod may have a directory of it
    raise errors.Refused(
        f"volume {handle} is a raw block volume, staged at node {node.node_id!r}: the driver does "
        "not know what is on it, so there is no filesystem that it could freeze; use a "
        "VolumeSnapshotClass without the parameter freeze, and let its user write out (a virtual "
        "machine by its guest agent)"
    )
