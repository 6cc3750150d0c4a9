"""Reads a cluster into facts, and goes on past damage, locations that fail, and pools not allowed.

It looks at every pool and RADOS namespace that the user can read, not only at those where the
driver made volumes: a static volume may be anywhere.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from rbdcsi import errors
from rbdcsi.attachments.fences import Fence, Fences
from rbdcsi.attachments.records import VolumeRecord
from rbdcsi.attachments.store import Records
from rbdcsi.ceph import blocklist, lost_parent, rights
from rbdcsi.ceph.connection import Connection, Ioctx
from rbdcsi.ceph.connections import Connections
from rbdcsi.ceph.images import Images
from rbdcsi.ceph.locations import Location, Registry
from rbdcsi.config.clusters import Cluster as ConfiguredCluster
from rbdcsi.model.ids import LocationId, SnapshotHandle, VolumeHandle
from rbdcsi.nodes.presence import Answers, Question, ask
from rbdcsi.nodes.registry import NodeRecord, Nodes
from rbdcsi.operator import one_ceph, volumes
from rbdcsi.operator.facts import (
    Cluster,
    Depth,
    LocationFacts,
    Node,
    NotedFence,
    NotedSnapshot,
    Volume,
)
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.snapshots.store import Snapshots
from rbdcsi.volumes import ancestry, capacity

_AT_ONCE = 8  # reads of images, and questions to nodes, that are under way together

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def clusters(pooled: Connections, depth: Depth) -> list[Cluster]:
    """Return the facts of every configured cluster, those of one Ceph divided among them."""
    return one_ceph.divide([_cluster(pooled, each, depth) for each in pooled.configured.clusters])


def volume(pooled: Connections, handle: VolumeHandle) -> tuple[Volume, dict[str, Node]]:
    """Return the facts of one volume, and of its nodes.

    Raises:
        NotFound: there is neither an image nor a record of it.
    """
    with pooled.use(handle.location.cluster_id) as connection:
        ioctx = connection.ioctx(handle.location.pool_id, handle.location.namespace)
        pool = connection.pool_numbered(handle.location.pool_id)
        open_location = Location(handle.location, pool.name, ioctx)
        location = LocationFacts(handle.location, pool.name, open_location.prefixes())
        record = _record(ioctx, handle.image_id)
        name = open_location.images.name_of(handle.image_id) or ""
        candidate = volumes.Candidate(handle.image_id, name, record)
        facts = volumes.read(location, open_location, candidate, Depth.IMAGES)
        if facts is None or (facts.header is None and record is None):
            raise errors.NotFound(f"volume {handle} does not exist")
        return facts, _nodes(connection, facts.record.attachments)


def ancestors(pooled: Connections, facts: Volume) -> int | None:
    """Return how many images a volume's image is a clone of, one of another; None if it is gone."""
    if facts.header is None:
        return None
    with pooled.use(facts.handle.location.cluster_id) as connection:
        return ancestry.depth(connection, facts.header)


def snapshot_record(pooled: Connections, handle: SnapshotHandle) -> SnapshotRecord | None:
    """Return the record of a snapshot, None if no driver with a configured clusterID took it.

    Raises:
        Failed: it is damaged.
        Unavailable: a cluster that may have the record does not answer.
    """
    own_id = handle.volume.location.cluster_id
    fsid = pooled.get(own_id).fsid
    others = (each.cluster_id for each in pooled.configured.clusters)
    for cluster_id in dict.fromkeys([own_id, *others]):
        with pooled.use(cluster_id) as connection:
            if connection.fsid == fsid:
                stored = Snapshots(connection.home(), cluster_id).of_snapshot(handle)
                if stored:
                    return stored.record
    return None


def used_bytes(pooled: Connections, handle: VolumeHandle) -> int:
    """Return the bytes of data that a volume's image holds.

    Raises:
        NotFound: no such image.
    """
    location_id = handle.location
    with pooled.use(location_id.cluster_id) as connection:
        ioctx = connection.ioctx(location_id.pool_id, location_id.namespace)
        return Images(ioctx).used_bytes(handle.image_id)


def attached_to(
    pooled: Connections, cluster_id: str, node_id: str
) -> tuple[list[VolumeHandle], list[str]]:
    """Return the volumes that a node has attached, and the reasons why the list may lack some.

    Args:
        pooled: the connections.
        cluster_id: the cluster.
        node_id: the node.
    """
    handles: list[VolumeHandle] = []
    failures: list[str] = []
    with pooled.use(cluster_id) as connection:
        for location, open_location in _locations(connection, Depth.RECORDS):
            try:
                if open_location:
                    image_ids = Records(open_location.ioctx).attached_to(node_id)
                    handles += [VolumeHandle(location.id, image_id) for image_id in image_ids]
                failure = location.failure
            except errors.RbdCsiError as error:
                failure = str(error)
            if failure:
                failures.append(f"{location} cannot be read: {failure}")
    return handles, failures


def _record(ioctx: Ioctx, image_id: str) -> VolumeRecord | errors.Failed | None:
    """Return the volume's record, None if it has none, and the error if it is damaged."""
    try:
        stored = Records(ioctx).read(image_id)
    except errors.Failed as error:
        return error
    return None if stored.text is None else stored.record


def _cluster(pooled: Connections, configured: ConfiguredCluster, depth: Depth) -> Cluster:
    cluster_id, now = configured.cluster_id, datetime.now(UTC)
    try:
        with pooled.use(cluster_id) as connection:
            return _read(connection, configured, now, depth)
    except errors.RbdCsiError as error:
        return Cluster(cluster_id, now, configured.user, configured.pool, failure=str(error))


def _read(
    connection: Connection, configured: ConfiguredCluster, now: datetime, depth: Depth
) -> Cluster:
    listed = blocklist.addresses(connection)
    locations, all_volumes = list[LocationFacts](), list[Volume]()
    for location, open_location in _locations(connection, depth):
        read_location, volumes_there = _in_location(location, open_location, depth)
        locations.append(read_location)
        all_volumes += (
            _all(functools.partial(_with_parent, connection), volumes_there)
            if depth is Depth.ALL
            else volumes_there
        )
    attached = {node_id for each in all_volumes for node_id in each.record.attachments}
    return Cluster(
        configured.cluster_id,
        now,
        configured.user,
        configured.pool,
        home_namespace=configured.rados_namespace,
        fsid=connection.fsid,
        lacks=frozenset(_lacking(connection)) if depth is Depth.ALL else frozenset(),
        locations=tuple(locations),
        volumes=tuple(all_volumes),
        nodes=_nodes(connection, [*attached, *(node_id for node_id, _ in _records(connection))]),
        fences=tuple(_fences(connection, listed)),
        snapshots=tuple(_snapshots(connection)),
        blocklist=listed,
    )


def _locations(
    connection: Connection, depth: Depth
) -> Iterator[tuple[LocationFacts, Location | None]]:
    """Yield pools and namespaces, each with its open location, None if it cannot be opened."""
    registered = Registry(connection.home(), connection.cluster_id).all()
    for pool in sorted(connection.pools(), key=lambda each: each.pool_id):
        namespaces = [""]
        while namespaces:
            location_id = LocationId(connection.cluster_id, pool.pool_id, namespaces.pop(0))
            try:
                ioctx = connection.ioctx(pool.pool_id, location_id.namespace)
                if not location_id.namespace:
                    namespaces = connection.namespaces(pool)
                open_location = Location(location_id, pool.name, ioctx)
                may_change = depth is not Depth.ALL or rights.may_change_images(ioctx)
                facts = LocationFacts(
                    location_id,
                    pool.name,
                    open_location.prefixes(),
                    may_change=may_change,
                    registered=registered is None or location_id in registered,
                )
                yield facts, open_location
            except errors.Forbidden:
                if location_id in (registered or ()):  # otherwise it is not the driver's
                    yield LocationFacts(location_id, pool.name, may_read=False), None
            except errors.NotFound:  # it was removed just now
                continue
            except errors.RbdCsiError as error:
                yield LocationFacts(location_id, pool.name, failure=str(error)), None


def _in_location(
    location: LocationFacts, open_location: Location | None, depth: Depth
) -> tuple[LocationFacts, list[Volume]]:
    """Return a location, with its failure if it cannot be read, and its volumes."""
    if open_location is None:
        return location, []
    try:
        candidates = volumes.candidates(location, open_location)
        read = _all(lambda each: volumes.read(location, open_location, each, depth), candidates)
    except errors.RbdCsiError as error:
        return dataclasses.replace(location, failure=str(error)), []
    return location, [each for each in read if each]


def _with_parent(connection: Connection, volume: Volume) -> Volume:
    is_lost = volume.header is not None and lost_parent.is_lost(connection, volume.header)
    return dataclasses.replace(volume, parent_lost=is_lost)


def _all(read: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    with ThreadPoolExecutor(_AT_ONCE, "reading") as executor:
        return list(executor.map(read, items))


def _records(connection: Connection) -> Iterator[tuple[str, NodeRecord | errors.Failed]]:
    return Nodes(connection.home()).all()


def _nodes(connection: Connection, node_ids: Iterable[str]) -> dict[str, Node]:
    """Return these nodes, which need have no record."""
    home, records = connection.home(), dict(_records(connection))
    ordered = sorted(set(node_ids))
    answers = _all(lambda node_id: ask(home, node_id, Question()), ordered)
    return {
        node_id: _node(node_id, records.get(node_id), each)
        for node_id, each in zip(ordered, answers, strict=True)
    }


def _node(node_id: str, record: NodeRecord | errors.Failed | None, answers: Answers) -> Node:
    if isinstance(record, errors.Failed):
        return Node(node_id, None, answers, str(record))
    return Node(node_id, record, answers)


def _fences(connection: Connection, listed: frozenset[str]) -> Iterator[NotedFence]:
    for address, fence in Fences(connection.home()).each():
        if isinstance(fence, Fence):
            yield NotedFence(address, fence, address in listed)
        else:
            yield NotedFence(address, None, address in listed, str(fence))


def _snapshots(connection: Connection) -> Iterator[NotedSnapshot]:
    stored = Snapshots(connection.home(), connection.cluster_id)
    damaged = dict[str, errors.Failed]()
    for name, record in stored.each():
        if isinstance(record, SnapshotRecord):
            yield NotedSnapshot(name, record)
        else:
            damaged[name] = record
    taken = {name: handle for handle, name in stored.taken()} if damaged else {}
    sources = {name: volume for volume, name in stored.all_being_taken()} if damaged else {}
    for name, error in damaged.items():
        yield NotedSnapshot(name, None, str(error), taken.get(name), sources.get(name))


def _lacking(connection: Connection) -> Iterator[str]:
    """Yield the rights that the user lacks in the cluster as a whole."""
    if not rights.may_fence(connection):
        yield "fence"
    if not rights.may_lift(connection):
        yield "lift"
    try:
        capacity.usage(connection, 0)
    except errors.Forbidden:
        yield "capacity"
