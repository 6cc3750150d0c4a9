"""What Ceph holds about volumes, nodes and fences, as it was read; damage is a fact like others."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rbdcsi.attachments.fences import Fence
from rbdcsi.attachments.records import Attachment, Client, VolumeRecord
from rbdcsi.ceph.objects import Header
from rbdcsi.model.format_mark import Mark
from rbdcsi.model.ids import LocationId, SnapshotHandle, VolumeHandle
from rbdcsi.nodes.presence import Answers
from rbdcsi.nodes.registry import NodeRecord
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.volumes.spec import VolumeSpec


class Depth(enum.Enum):
    """How closely to look."""

    RECORDS = "records"  # no image is opened
    IMAGES = "images"  # each image is opened for a list of its watchers
    ALL = "all"  # the user's rights, and whether images hold data, are tried, too


@dataclass(frozen=True)
class LocationFacts:
    """A pool and RADOS namespace.

    `prefixes` are those of its volumes' names; if there are none, the driver does not know that it
    holds volumes. `failure` is why it could not be read. `may_read` is False only for one that the
    driver knows. `registered` is whether the object of known locations has it, so that the driver
    looks into it.
    """

    id: LocationId
    pool: str
    prefixes: tuple[str, ...] = ()
    failure: str | None = None
    may_read: bool = True
    may_change: bool = True
    registered: bool = True

    def __str__(self) -> str:
        return f"{self.pool}/{self.id.namespace}" if self.id.namespace else self.pool


@dataclass(frozen=True)
class Volume:
    """An image that is a volume, or has a record.

    Attributes:
        handle: the volume's.
        location: where it is.
        image: the image's name, in the trash the one that it had; empty if it is not known.
        trashed: whether the image is in the trash.
        header: the image's; None if it has none.
        spec: None if the image has none, or a damaged one.
        mark: how the image was used; None if it never was, or if the mark is damaged.
        record: the attachments; empty if it is damaged.
        watchers: the clients that have the image open for writing.
        mirror_daemons: those of them that are rbd-mirror's.
        flattened: whether a controller has claimed the image to flatten it, if that was looked at.
        empty: whether nothing was written into it; None if that was not tried.
        parent_lost: whether it is a clone whose parent's snapshot is gone, if that was looked at.
        damage: the messages about damaged values, by kind: record, spec, mark, header.
        node_keys: of a damaged record, the keys of its nodes.
    """

    handle: VolumeHandle
    location: LocationFacts
    image: str = ""
    trashed: bool = False
    header: Header | None = None
    spec: VolumeSpec | None = None
    mark: Mark | None = None
    record: VolumeRecord = field(default_factory=VolumeRecord)
    watchers: frozenset[str] = frozenset()
    mirror_daemons: frozenset[str] = frozenset()
    flattened: bool = False
    empty: bool | None = None
    parent_lost: bool = False
    damage: Mapping[str, str] = field(default_factory=dict)
    node_keys: tuple[str, ...] = ()

    def clients(self) -> Iterator[tuple[str, Attachment, Client]]:
        """Yield each client that is not proved gone, with its node and attachment."""
        for node_id, attachment in self.record.attachments.items():
            for client in attachment.clients:
                yield node_id, attachment, client


@dataclass(frozen=True)
class Node:
    """A node id that has a record or an attachment; `answers` are those of its plugins."""

    node_id: str
    record: NodeRecord | None
    answers: Answers
    damage: str | None = None

    @property
    def lives(self) -> bool:
        """Whether a plugin of the node answers."""
        return bool(self.answers.answers)


@dataclass(frozen=True)
class NotedFence:
    """A fence's note, None if it is damaged; `in_force` is whether the blocklist has its entry."""

    address: str
    note: Fence | None
    in_force: bool
    damage: str | None = None


@dataclass(frozen=True)
class NotedSnapshot:
    """The record of a snapshot by its CSI name, None if it is damaged.

    The keys beside a damaged record still identify its snapshot: `taken` is the handle; of a
    snapshot that may not be taken yet, `source` is the volume.
    """

    name: str
    record: SnapshotRecord | None
    damage: str | None = None
    taken: SnapshotHandle | None = None
    source: VolumeHandle | None = None


@dataclass(frozen=True)
class Cluster:
    """All facts of one clusterID, read at `now`.

    `failure` is why the cluster could not be read at all; `fsid` is None then. `lacks` are the
    rights that the user has not got in the cluster as a whole: "fence", "lift" or "capacity". Those
    in a location are in `LocationFacts`. `same_ceph` are the facts of every configured
    clusterID of this Ceph, this one too, before one_ceph.py divided them.
    """

    cluster_id: str
    now: datetime
    user: str = ""
    home_pool: str = ""
    home_namespace: str = ""
    fsid: str | None = None
    failure: str | None = None
    lacks: frozenset[str] = frozenset()
    locations: tuple[LocationFacts, ...] = ()
    volumes: tuple[Volume, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    fences: tuple[NotedFence, ...] = ()
    snapshots: tuple[NotedSnapshot, ...] = ()
    blocklist: frozenset[str] = frozenset()
    same_ceph: tuple["Cluster", ...] = ()

    @property
    def of_ceph(self) -> tuple["Cluster", ...]:
        """The facts of every configured clusterID of this Ceph."""
        return self.same_ceph or (self,)

    def volumes_of(self, node_id: str) -> list[Volume]:
        """Return the volumes that the node has attached."""
        return [each for each in self.volumes if node_id in each.record.attachments]

    def node(self, node_id: str) -> Node | None:
        """Return the node, one that lives if any clusterID of this Ceph has one; None if unknown.

        Nodes of another clusterID may be registered at another home location.
        """
        nodes = [each.nodes[node_id] for each in self.of_ceph if node_id in each.nodes]
        return max(nodes, key=lambda each: (each.lives, each.record is not None), default=None)

    def all_nodes(self) -> list[Node]:
        """Return the nodes of every clusterID of this Ceph."""
        return [node for each in self.of_ceph for node in each.nodes.values()]

    def noted_addresses(self) -> set[str]:
        """Return the clients that a driver of this Ceph fenced, whatever its clusterID."""
        return {fence.address for each in self.of_ceph for fence in each.fences}

    def here(self, handle: VolumeHandle) -> VolumeHandle:
        """Return the handle with this clusterID: a record of this Ceph may have another one."""
        location = dataclasses.replace(handle.location, cluster_id=self.cluster_id)
        return VolumeHandle(location, handle.image_id)

    def snapshot_here(self, handle: SnapshotHandle) -> SnapshotHandle:
        """Return the snapshot's handle with this clusterID; see `here`."""
        return SnapshotHandle(self.here(handle.volume), handle.snap_id)

    def recorded_snapshots(self) -> dict[SnapshotHandle, SnapshotRecord]:
        """Return the records of snapshots by their handles, all with this clusterID.

        The records are those of every clusterID of this Ceph, so that no driver's snapshot counts
        as another program's.
        """
        return {
            self.snapshot_here(record.handle): record
            for record in self._snapshot_records()
            if record.handle
        }

    def snapshots_being_taken(self, volume: VolumeHandle) -> set[str]:
        """Return the RBD names of the volume's snapshots that have a record."""
        return {
            record.snapshot
            for record in self._snapshot_records()
            if self.here(record.volume) == volume
        }

    def has_damaged_record(self, snapshot: SnapshotHandle) -> bool:
        """Return whether a damaged record is, or may be, that of a snapshot of this clusterID."""
        return any(
            (noted.taken and self.snapshot_here(noted.taken) == snapshot)
            or (noted.source and self.here(noted.source) == snapshot.volume)
            for each in self.of_ceph
            for noted in each.snapshots
        )

    def _snapshot_records(self) -> Iterator[SnapshotRecord]:
        for each in self.of_ceph:
            for noted in each.snapshots:
                if noted.record:
                    yield noted.record
