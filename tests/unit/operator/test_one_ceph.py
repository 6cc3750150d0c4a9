"""Several clusterIDs of one Ceph: each volume and record counts once, by whatever clusterID."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from rbdcsi.attachments.fences import Fence
from rbdcsi.attachments.records import Attachment, Client, State, VolumeRecord
from rbdcsi.ceph.lineage import ImageSnapshot, SnapshotKind
from rbdcsi.ceph.objects import Header
from rbdcsi.cli import snapshot_rows
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.model.ids import LocationId, VolumeHandle
from rbdcsi.nodes.presence import Answer, Answers
from rbdcsi.nodes.registry import NodeRecord
from rbdcsi.operator import one_ceph
from rbdcsi.operator.doctor import RULES
from rbdcsi.operator.doctor.findings import examine
from rbdcsi.operator.facts import (
    Cluster,
    LocationFacts,
    Node,
    NotedFence,
    NotedSnapshot,
    Volume,
)
from rbdcsi.snapshots.records import SnapshotRecord

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
THEN = (NOW - timedelta(hours=2)).isoformat()
CLIENT = "10.0.0.1:0/1"
SNAPSHOT = ImageSnapshot(4, "s", 1 << 20, SnapshotKind.USER, 0, 0)
HEADER = Header(1 << 20, 1 << 22, 61, None, None, None, {}, (SNAPSHOT,))
NODE = Node(
    "n",
    NodeRecord("n", (), "b-1", "1", THEN, machine_id="m-1"),
    Answers((Answer("m-1", "b-1"),), 0),
)
SHARED, APART = "home", "another home"


def location(cluster_id: str, **facts: object) -> LocationFacts:
    whole = LocationFacts(LocationId(cluster_id, 1, ""), "p", ("csi-",))
    return dataclasses.replace(whole, **facts)  # type: ignore[arg-type]


def volume(cluster_id: str, record: VolumeRecord, **facts: object) -> Volume:
    place = location(cluster_id, **facts)
    return Volume(VolumeHandle(place.id, "a"), place, "csi-a", header=HEADER, record=record)


def facts(cluster_id: str, record: VolumeRecord, home: str, **changes: object) -> Cluster:
    """Return one clusterID's facts of pool `p`, which has one volume."""
    seen = volume(cluster_id, record)
    cluster = Cluster(
        cluster_id,
        NOW,
        "rbdcsi",
        "p",
        home_namespace=home,
        fsid="f",
        locations=(seen.location,),
        volumes=(seen,),
    )
    return dataclasses.replace(cluster, **changes)  # type: ignore[arg-type]


def recorded(cluster_id: str, snap_id: int | None = SNAPSHOT.snap_id) -> tuple[NotedSnapshot, ...]:
    source = str(VolumeHandle(LocationId(cluster_id, 1, ""), "a"))
    return (NotedSnapshot("csi", SnapshotRecord("csi", source, "s", snap_id)),)


def kinds(*clusters: Cluster) -> list[str]:
    return [finding.kind for finding in examine(one_ceph.divide(clusters), RULES)]


DELETED = VolumeRecord(1, {}, THEN)
ATTACHED = VolumeRecord(
    1,
    {
        "n": Attachment(
            AccessMode.SINGLE_NODE_WRITER,
            False,
            1,
            State.STAGED,
            THEN,
            CLIENT,
            None,
            (Client(CLIENT),),
        )
    },
)


def test_a_snapshot_that_no_record_names_is_found_once() -> None:
    assert kinds(facts("c", DELETED, SHARED), facts("d", DELETED, APART)) == ["stuck-deletion"]


@pytest.mark.parametrize("snap_id", [SNAPSHOT.snap_id, None])
def test_a_snapshot_of_another_installation_at_the_same_home_is_a_drivers(
    snap_id: int | None,
) -> None:
    assert kinds(facts("c", DELETED, SHARED, snapshots=recorded("not-configured", snap_id))) == []


@pytest.mark.parametrize("home", [SHARED, APART])
@pytest.mark.parametrize("snap_id", [SNAPSHOT.snap_id, None])
def test_a_snapshot_with_a_record_of_another_cluster_id_is_a_drivers(
    home: str, snap_id: int | None
) -> None:
    other = facts("d", DELETED, home, snapshots=recorded("d", snap_id))
    assert kinds(facts("c", DELETED, SHARED), other) == []
    assert kinds(other, facts("c", DELETED, SHARED)) == []


def test_a_record_of_another_ceph_proves_nothing() -> None:
    other = facts("d", DELETED, APART, fsid="g", snapshots=recorded("d"))
    assert kinds(facts("c", DELETED, SHARED), other) == ["stuck-deletion"]


def test_a_fence_of_another_cluster_id_is_a_drivers() -> None:
    blocklist, nodes = frozenset({CLIENT}), {"n": NODE}
    note = Fence(CLIENT, "v1:d:1::a", "n", "m-1", "b-2", THEN, THEN)
    seen = facts("c", ATTACHED, SHARED, blocklist=blocklist, nodes=nodes)
    other = facts("d", ATTACHED, APART, blocklist=blocklist, nodes=nodes)
    fenced = dataclasses.replace(other, fences=(NotedFence(CLIENT, note, in_force=True),))
    assert kinds(seen, other) == ["blocklisted-client"]
    assert "blocklisted-client" not in kinds(seen, fenced)


def test_a_node_lives_by_whatever_cluster_id_it_is_registered() -> None:
    unknown = Node("n", None, Answers((), 0))
    blocklist = frozenset({CLIENT})
    seen = facts("c", ATTACHED, SHARED, nodes={"n": unknown}, blocklist=blocklist)
    other = facts("d", ATTACHED, APART, nodes={"n": NODE}, blocklist=blocklist)
    assert kinds(seen) == ["no-living-node", "blocklisted-client"]
    assert kinds(seen, other) == ["blocklisted-client"]


def test_a_location_is_known_if_one_cluster_id_has_registered_it() -> None:
    unregistered = (location("c", registered=False),)
    empty = facts("c", VolumeRecord(), SHARED, volumes=(), locations=unregistered)
    other = facts("d", VolumeRecord(), APART, volumes=())
    assert kinds(empty, other) == []
    missing = dataclasses.replace(other, locations=(location("d", registered=False),))
    assert kinds(empty, missing) == ["unknown-location"]


def test_a_pool_that_another_cluster_id_has_is_readable() -> None:
    first, second = facts("c", VolumeRecord(), SHARED), facts("d", VolumeRecord(), SHARED)
    assert kinds(first, second) == []
    assert kinds(first, dataclasses.replace(second, user="other", locations=())) == [
        "missing-right"
    ]


def test_damage_at_a_shared_home_is_found_once() -> None:
    damaged = (NotedSnapshot("s", None, "m"),)
    first = facts("c", VolumeRecord(), SHARED, snapshots=damaged)
    assert kinds(first, facts("d", VolumeRecord(), SHARED, snapshots=damaged)) == ["damaged-record"]


def test_a_volume_is_listed_once_by_the_cluster_id_that_knows_its_location() -> None:
    seen = facts("c", DELETED, SHARED)
    unregistered = volume("c", DELETED, registered=False)
    seen = dataclasses.replace(seen, locations=(unregistered.location,), volumes=(unregistered,))
    clusters = one_ceph.divide([seen, facts("d", DELETED, APART)])
    assert [str(each.handle) for cluster in clusters for each in cluster.volumes] == ["v1:d:1::a"]


@pytest.mark.parametrize("home", [SHARED, APART])
@pytest.mark.parametrize("cluster_id", ["c", "d"])
def test_a_snapshot_is_listed_once_and_as_the_drivers(home: str, cluster_id: str) -> None:
    clusters = one_ceph.divide(
        [
            facts("c", DELETED, SHARED, snapshots=recorded("d") if home == SHARED else ()),
            facts("d", DELETED, home, snapshots=recorded("d")),
        ]
    )
    volume_asked = VolumeHandle(LocationId(cluster_id, 1, ""), "a")
    for only in (None, volume_asked):
        rows = [row for each in clusters for row in snapshot_rows.of_cluster(each, only)]
        assert [(row["snapshot"], row["state"]) for row in rows] == [("s1:c:1::a:4", "ready")]
    other = VolumeHandle(LocationId(cluster_id, 2, ""), "a")
    assert [row for each in clusters for row in snapshot_rows.of_cluster(each, other)] == []
