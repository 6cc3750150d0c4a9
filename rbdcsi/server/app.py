"""Builds the services and the background threads from the options and the configuration."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import grpc

from rbdcsi.api import csi_pb2_grpc
from rbdcsi.attachments.detach import Policy
from rbdcsi.attachments.upkeep import FenceUpkeep
from rbdcsi.ceph import connections, probe
from rbdcsi.config.clusters import Config
from rbdcsi.config.options import Options
from rbdcsi.model import ids
from rbdcsi.runtime.periodic import PeriodicTask
from rbdcsi.server.locks import KeyedLocks
from rbdcsi.services.controller import Controller
from rbdcsi.services.group_controller import GroupController
from rbdcsi.services.identity import Identity
from rbdcsi.services.snapshot_metadata import SnapshotMetadata
from rbdcsi.volumes.clone_upkeep import CloneUpkeep
from rbdcsi.volumes.purge import Purger
from rbdcsi.volumes.search import LocationSearch
from rbdcsi.volumes.usage_metrics import Census

if TYPE_CHECKING:
    from rbdcsi.server.node_side import NodeSide
    from rbdcsi.services.node import Node


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
    group_controller: GroupController | None = None
    snapshot_metadata: SnapshotMetadata | None = None
    node: "Node | None" = None
    background: list[BackgroundTask] = field(default_factory=list)
    locks: KeyedLocks = field(default_factory=KeyedLocks)

    def add_to(self, server: grpc.Server) -> None:
        """Add the services to the server."""
        csi_pb2_grpc.add_IdentityServicer_to_server(self.identity, server)
        if self.controller:
            csi_pb2_grpc.add_ControllerServicer_to_server(self.controller, server)
        if self.group_controller:
            csi_pb2_grpc.add_GroupControllerServicer_to_server(self.group_controller, server)
        if self.snapshot_metadata:
            csi_pb2_grpc.add_SnapshotMetadataServicer_to_server(self.snapshot_metadata, server)
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
    node = None if options.role == "controller" else _node_side(options, pooled, locks)
    identity = Identity(probe.Readiness(pooled), node.registration if node else None)
    application = Application(identity, locks=locks)
    application.background.append(PeriodicTask("connections", pooled.close_idle))
    if options.role != "node":
        _add_controller(application, options, pooled)
    if node:
        application.node = node.service
        application.background += [node.registering, node.reconciling]
    return application


def _node_side(options: Options, pooled: connections.Connections, locks: KeyedLocks) -> "NodeSide":
    from rbdcsi.server.node_side import NodeSide  # a controller needs no memory for it

    return NodeSide(options, pooled, locks)


def _add_controller(
    application: Application, options: Options, pooled: connections.Connections
) -> None:
    for_removal = connections.Connections(pooled.configured, timeout=options.operation_timeout)
    application.background.append(PeriodicTask("connections", for_removal.close_idle))
    policy = Policy(options.fence == "always", options.detach_grace)
    purgers: dict[str, Purger] = {}
    clones: dict[str, CloneUpkeep] = {}
    tasks: dict[str, PeriodicTask] = {}

    def deep(location_id: ids.LocationId) -> None:
        clones[location_id.cluster_id].add(location_id)
        tasks[location_id.cluster_id].wake()

    # One of each for each cluster: none waits for a cluster that does not answer.
    for cluster in pooled.configured.clusters:
        cluster_id = cluster.cluster_id
        purgers[cluster_id] = Purger(cluster_id, pooled, for_removal)
        clones[cluster_id] = CloneUpkeep(cluster_id, pooled, for_removal)
        tasks[cluster_id] = PeriodicTask("clones", clones[cluster_id].run)
        application.background += [
            PeriodicTask("search", LocationSearch(cluster_id, pooled).run),
            purgers[cluster_id],
            tasks[cluster_id],
            PeriodicTask("census", Census(cluster_id, pooled).take),
            PeriodicTask("fences", FenceUpkeep(cluster_id, pooled).run),
        ]

    def deleted(location_id: ids.LocationId) -> None:
        purgers[location_id.cluster_id].wake(location_id)

    application.controller = Controller(pooled, policy, deleted, deep)
    application.group_controller = GroupController(pooled, deleted)
    application.snapshot_metadata = SnapshotMetadata(pooled)
