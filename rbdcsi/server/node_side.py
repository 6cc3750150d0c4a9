"""Builds the node's side of the driver: its service, its registration, and its reconciler."""

import contextlib

from rbdcsi.ceph import connections
from rbdcsi.config.options import Options
from rbdcsi.host.machine import this_machine
from rbdcsi.host.mappers import select
from rbdcsi.model import ids
from rbdcsi.nodes.heartbeat import NodeFacts, Registration
from rbdcsi.nodes.presence import Answer, Question
from rbdcsi.runtime.periodic import PeriodicTask
from rbdcsi.server.interceptors import volume_lock
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.services.node import Node
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.freeze import Freezer
from rbdcsi.staging.freeze_marks import FreezeMarks
from rbdcsi.staging.notes import Notes
from rbdcsi.staging.reconcile import Reconciler
from rbdcsi.staging.this_node import ThisNode


class NodeSide:
    """The node, its registration in Ceph, and its reconciler."""

    def __init__(
        self, options: Options, pooled: connections.Connections, locks: KeyedLocks
    ) -> None:
        """Build the node's side.

        Args:
            options: of the process.
            pooled: the connections.
            locks: those of calls, which the reconciler takes, too.
        """
        node = _this_node(options, pooled)
        self.this_node = node
        self._reconciler = Reconciler(
            node, lambda handle: _hold(locks, handle, f"reconciling volume {handle}")
        )
        self._freezer = Freezer(
            node,
            options.daemon_cgroup,
            lambda handle: _hold(locks, handle, f"freezing volume {handle} for a snapshot"),
        )
        self.reconciling = PeriodicTask("reconciler", self._reconciler.run)
        facts = NodeFacts(
            node.node_id,
            node.machine,
            options.max_volumes,
            options.topology,
            node.devices.supported(),
            tuple(map(str, node.allowed_watchers)),
        )
        self.registration = Registration(pooled, facts, self._answer, self._renew_watch)
        self.registering = PeriodicTask("registration", self.registration.renew)
        self.service = Node(node, self.registration, options.max_volumes, options.topology)

    def _renew_watch(self) -> None:
        """Register again soon; this runs in a thread of librados."""
        self.registering.wake()

    def _answer(self, question: Question) -> Answer:
        """Answer a controller; this runs in a thread of librados."""
        machine = self.this_node.machine
        will_release = False
        if question.release is not None:
            will_release = self._reconciler.release_soon(ids.parse(question.release))
            self.reconciling.wake()
        freeze = self._freezer.obey(question.freeze) if question.freeze else None
        return Answer(machine.machine_id, machine.boot_id, will_release, freeze)


def _this_node(options: Options, pooled: connections.Connections) -> ThisNode:
    preferred = select.NAMES if options.mapper == "auto" else (options.mapper,)
    mappers = select.every(options.state_dir, options.daemon_cgroup)
    devices = Devices(mappers, preferred, pooled, Notes(options.state_dir / "notes"))
    return ThisNode(
        options.node_id,
        this_machine(options.socket.parent),
        options.kubelet_dir,
        devices,
        pooled,
        FreezeMarks(options.state_dir / "frozen"),
        options.allow_foreign_watchers,
        may_fence=options.fence == "always",
    )


def _hold(
    locks: KeyedLocks, handle: ids.VolumeHandle, operation: str
) -> contextlib.AbstractContextManager[None]:
    key = volume_lock.lock_key("Node", "volume_id", str(handle))
    return locks.hold(key, operation)
