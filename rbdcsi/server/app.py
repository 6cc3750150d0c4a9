"""Builds the services and the background threads from the options and the configuration."""

import contextlib
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from rbdcsi.api import csi_pb2_grpc
from rbdcsi.attachments.detach import Policy
from rbdcsi.attachments.upkeep import FenceUpkeep
from rbdcsi.ceph import connections, probe
from rbdcsi.config.clusters import Config
from rbdcsi.config.options import Options
from rbdcsi.host.machine import this_machine
from rbdcsi.host.mappers import select
from rbdcsi.model import ids
from rbdcsi.nodes.heartbeat import NodeFacts, Registration
from rbdcsi.nodes.presence import Answer, Question
from rbdcsi.runtime.periodic import PeriodicTask
from rbdcsi.server.interceptors import volume_lock
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.services.controller import Controller
from rbdcsi.services.identity import Identity
from rbdcsi.services.node import Node
from rbdcsi.staging.device_stack import Devices
from rbdcsi.staging.notes import Notes
from rbdcsi.staging.reconcile import Reconciler
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.volumes.purge import Purger
from rbdcsi.volumes.search import LocationSearch
from rbdcsi.volumes.usage_metrics import Census


class BackgroundTask(Protocol):
    """Work in a thread of its own."""

    def start(self) -> None:
        """Start the thread."""

    def stop(self) -> None:
        """Stop the thread; the next process does the work that remains."""


@dataclass
class Application:
    """The services and the background threads of one process."""

    identity: Identity
    controller: Controller | None = None
    node: Node | None = None
    background: list[BackgroundTask] = field(default_factory=list)
    locks: KeyedLocks = field(default_factory=KeyedLocks)

    def add_to(self, server: grpc.Server) -> None:
        """Add the services to the server."""
        csi_pb2_grpc.add_IdentityServicer_to_server(self.identity, server)
        if self.controller:
            csi_pb2_grpc.add_ControllerServicer_to_server(self.controller, server)
        if self.node:
            csi_pb2_grpc.add_NodeServicer_to_server(self.node, server)

    def start(self) -> None:
        """Start the threads."""
        for task in self.background:
            task.start()

    def stop(self) -> None:
        """Stop the threads."""
        for task in self.background:
            task.stop()


def build(options: Options, clusters: Config) -> Application:
    """Return the application of a process with this role and these options."""
    pooled = connections.Connections(clusters, timeout=options.operation_timeout)
    locks = KeyedLocks()
    node = _NodeSide(options, pooled, locks) if options.role != "controller" else None
    identity = Identity(probe.Readiness(pooled), node.registration if node else None)
    application = Application(identity, locks=locks)
    application.background.append(PeriodicTask("connections", pooled.close_idle))
    if options.role != "node":
        _add_controller(application, options, pooled)
    if node:
        application.node = Node(
            node.this_node, node.registration, options.max_volumes, options.topology
        )
        application.background += [node.registering, node.reconciling]
    return application


def _add_controller(
    application: Application, options: Options, pooled: connections.Connections
) -> None:
    for_removal = connections.Connections(pooled.configured, timeout=options.operation_timeout)
    policy = Policy(options.fence == "always", options.detach_grace)
    purgers: dict[str, Purger] = {}
    # One of each for each cluster: none waits for a cluster that does not answer.
    for cluster in pooled.configured.clusters:
        cluster_id = cluster.cluster_id
        purgers[cluster_id] = Purger(cluster_id, pooled, for_removal)
        application.background += [
            PeriodicTask("search", LocationSearch(cluster_id, pooled).run),
            purgers[cluster_id],
            PeriodicTask("census", Census(cluster_id, pooled).take),
            PeriodicTask("fences", FenceUpkeep(cluster_id, pooled).run),
        ]
    application.controller = Controller(
        pooled, policy, lambda location_id: purgers[location_id.cluster_id].wake(location_id)
    )


class _NodeSide:
    """The node, its registration in Ceph, and its reconciler."""

    def __init__(
        self, options: Options, pooled: connections.Connections, locks: KeyedLocks
    ) -> None:
        node = self.this_node = _this_node(options, pooled)
        self._reconciler = Reconciler(node, lambda handle: _hold(locks, handle))
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
        return Answer(machine.machine_id, machine.boot_id, will_release)


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
        options.allow_foreign_watchers,
        may_fence=options.fence == "always",
    )


def _hold(locks: KeyedLocks, handle: ids.VolumeHandle) -> contextlib.AbstractContextManager[None]:
    key = volume_lock.lock_key("Node", "volume_id", str(handle))
    return locks.hold(key, f"reconciling volume {handle}")
