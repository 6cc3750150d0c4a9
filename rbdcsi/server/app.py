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
from rbdcsi.staging.orphans import Orphans
from rbdcsi.staging.this_node import ThisNode
from rbdcsi.volumes.purge import Purger
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
    with_controller, with_node = options.role != "node", options.role != "controller"
    node = _this_node(options, pooled) if with_node else None
    registration = _registration(options, node) if node else None
    application = Application(Identity(probe.Readiness(pooled), registration))
    if with_controller:
        _add_controller(application, options, pooled)
    if node and registration:
        application.node = Node(node, registration, options.max_volumes, options.topology)
        orphans = Orphans(node, lambda handle: _hold(application, handle))
        application.background += [
            PeriodicTask("registration", registration.renew),
            PeriodicTask("orphans", orphans.unmap),
        ]
    return application


def _add_controller(
    application: Application, options: Options, pooled: connections.Connections
) -> None:
    for_removal = connections.Connections(pooled.configured, timeout=options.operation_timeout)
    purger = Purger(pooled, for_removal)
    policy = Policy(options.fence == "always", options.detach_grace)
    application.controller = Controller(pooled, policy, purger.wake)
    application.background += [purger, PeriodicTask("census", Census(pooled).take)]
    application.background.append(PeriodicTask("fences", FenceUpkeep(pooled).run))


def _this_node(options: Options, pooled: connections.Connections) -> ThisNode:
    preferred = select.NAMES if options.mapper == "auto" else (options.mapper,)
    devices = Devices(select.every(options.state_dir, options.daemon_cgroup), preferred, pooled)
    machine = this_machine(options.socket.parent)
    return ThisNode(
        options.node_id, machine, options.kubelet_dir, devices, pooled, options.state_dir
    )


def _registration(options: Options, node: ThisNode) -> Registration:
    facts = NodeFacts(
        node.node_id,
        node.machine,
        options.max_volumes,
        options.topology,
        node.devices.supported(),
    )

    def answer(_question: Question) -> Answer:
        return Answer(node.machine.machine_id, node.machine.boot_id)

    return Registration(node.connections, facts, answer)


def _hold(
    application: Application, handle: ids.VolumeHandle
) -> contextlib.AbstractContextManager[None]:
    key = volume_lock.lock_key("Node", "volume_id", str(handle))
    return application.locks.hold(key, f"unmapping an orphan of volume {handle}")
