"""What the doctor's rules find in facts, and what they leave alone."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from rbdcsi.attachments.fences import Fence
from rbdcsi.attachments.records import Attachment, Client, Rollback, State, VolumeRecord
from rbdcsi.ceph.lineage import ImageSnapshot, SnapshotKind
from rbdcsi.ceph.objects import Header
from rbdcsi.model import storage_class
from rbdcsi.model.capabilities import AccessMode
from rbdcsi.model.ids import LocationId, SnapshotHandle, VolumeHandle
from rbdcsi.model.image_layout import Layout
from rbdcsi.model.node_options import NodeOptions
from rbdcsi.nodes.presence import Answer, Answers
from rbdcsi.nodes.registry import NodeRecord, Refused
from rbdcsi.operator.doctor import RULES
from rbdcsi.operator.doctor.findings import Finding, examine, lasting
from rbdcsi.operator.facts import (
    Cluster,
    LocationFacts,
    Node,
    NotedFence,
    NotedSnapshot,
    Volume,
)
from rbdcsi.snapshots.records import SnapshotRecord
from rbdcsi.volumes import spec

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
THEN = "2026-01-01T00:00:00+00:00"
LAST_MONTH = "2025-12-01T00:00:00+00:00"
LONG_AGO = (NOW - timedelta(hours=2)).isoformat()
CLIENT = "10.0.0.1:0/1"
STRANGER = "10.0.0.9:0/9"
RECORD = NodeRecord(
    "n", ("10.0.0.1:0/7",), "b-1", "1", THEN, machine_id="m-1", ended_boots=("b-0",)
)
NODE = Node("n", RECORD, Answers((Answer("m-1", "b-1"),), 0))
SILENT = dataclasses.replace(NODE, answers=Answers((), 1))
LOCATION = LocationFacts(LocationId("c", 1, ""), "p", ("csi-",))
ATTACHMENT = Attachment(
    AccessMode.SINGLE_NODE_WRITER, False, 1, State.STAGED, THEN, CLIENT, None, (Client(CLIENT),)
)
VOLUME = Volume(
    VolumeHandle(LOCATION.id, "a"),
    LOCATION,
    "csi-a",
    header=Header(1 << 20, 1 << 22, 61, None, None, None, {}),
    record=VolumeRecord(1, {"n": ATTACHMENT}),
    watchers=frozenset({CLIENT}),
)
NOTE = Fence(STRANGER, "v1:c:1::a", "n", "m-1", "b-1", THEN, THEN)
FENCE = NotedFence(STRANGER, NOTE, in_force=True)
SNAPSHOT = ImageSnapshot(4, "s", 1 << 20, SnapshotKind.USER, 0, 0)


def cluster(*volumes: Volume, node: Node = NODE, **facts: object) -> Cluster:
    healthy = Cluster(
        "c",
        NOW,
        "rbdcsi",
        "p",
        locations=(LOCATION,),
        volumes=volumes,
        nodes={node.node_id: node},
    )
    return dataclasses.replace(healthy, **facts)  # type: ignore[arg-type]


def kinds(facts: Cluster) -> list[str]:
    return [finding.kind for finding in examine([facts], RULES)]


def changed(**facts: object) -> Volume:
    return dataclasses.replace(VOLUME, **facts)  # type: ignore[arg-type]


def rolled_back(*watchers: str) -> Volume:
    rollback = Rollback(STRANGER, 4, "before", 1 << 20, THEN)
    record = VolumeRecord(1, {}, rollback=rollback, rollbacks=1)
    return changed(record=record, watchers=frozenset(watchers))


def test_a_rollback_is_cut_off_if_its_client_is_gone_or_shut_out() -> None:
    assert kinds(cluster(rolled_back(STRANGER))) == []
    assert kinds(cluster(rolled_back())) == ["cut-off-rollback"]
    shut_out = cluster(rolled_back(STRANGER), blocklist=frozenset({STRANGER}))
    (finding,) = examine([shut_out], RULES)
    words = "rbdcsi volumes rollback v1:c:1::a s1:c:1::a:4 --confirm csi-a"
    assert finding.commands == (words,)


def deleting(since: str, *watchers: str) -> Volume:
    return changed(record=VolumeRecord(1, {}, since), watchers=frozenset(watchers), trashed=True)


def test_nothing_is_found_in_a_healthy_cluster() -> None:
    assert kinds(cluster(VOLUME, fences=(FENCE,), blocklist=frozenset({STRANGER}))) == []


@pytest.mark.parametrize(
    ("volume", "kind"),
    [
        (changed(watchers=frozenset({CLIENT, STRANGER})), "foreign-watcher"),
        (changed(watchers=frozenset()), "staged-without-watcher"),
        (deleting(LONG_AGO, STRANGER), "stuck-deletion"),
        (deleting(LONG_AGO), "stuck-deletion"),
        (
            dataclasses.replace(
                deleting(NOW.isoformat()),
                header=Header(1, 1, 1, None, None, None, {}, (SNAPSHOT,)),
            ),
            "stuck-deletion",
        ),
        (changed(parent_lost=True), "lost-parent"),
        (changed(record=VolumeRecord(), watchers=frozenset(), empty=True), "half-made-image"),
        (changed(record=VolumeRecord(), watchers=frozenset(), header=None), "half-made-image"),
        *(
            (changed(damage={kind: "m"}), "damaged-record")
            for kind in ("record", "spec", "mark", "header", "trash")
        ),
    ],
)
def test_a_state_of_a_volume_is_found(volume: Volume, kind: str) -> None:
    assert kinds(cluster(volume)) == [kind]


READONLY = dataclasses.replace(ATTACHMENT, readonly=True)
RELEASED = dataclasses.replace(ATTACHMENT, state=State.RELEASED, client=None, recorded_clients=())


@pytest.mark.parametrize(
    "volume",
    [
        pytest.param(
            changed(record=VolumeRecord(1, {"n": READONLY}), watchers=frozenset()),
            id="a client that only reads need not watch",
        ),
        pytest.param(
            changed(record=VolumeRecord(1, {"n": RELEASED}), watchers=frozenset()), id="released"
        ),
        pytest.param(
            changed(watchers=frozenset({CLIENT, "10.0.0.1:0/7"})), id="the plugin's own client"
        ),
        pytest.param(
            changed(watchers=frozenset({CLIENT, STRANGER}), mirror_daemons=frozenset({STRANGER})),
            id="rbd-mirror",
        ),
        pytest.param(
            changed(watchers=frozenset({CLIENT, STRANGER}), flattened=True),
            id="the controller that flattens it",
        ),
        pytest.param(deleting(NOW.isoformat()), id="a deletion that has just begun"),
        pytest.param(
            deleting(NOW.isoformat(), STRANGER), id="the controller that removes its data"
        ),
        pytest.param(
            changed(record=VolumeRecord(), watchers=frozenset(), empty=False),
            id="an unmanaged image with data",
        ),
        pytest.param(
            changed(record=VolumeRecord(), watchers=frozenset(), empty=None),
            id="an image with metadata",
        ),
    ],
)
def test_a_usual_state_of_a_volume_is_no_finding(volume: Volume) -> None:
    assert kinds(cluster(volume)) == []


def test_only_one_client_can_be_the_one_that_flattens() -> None:
    watched = changed(watchers=frozenset({CLIENT, STRANGER, "10.0.0.8:0/8"}), flattened=True)
    assert kinds(cluster(watched)) == ["foreign-watcher"] * 2


def test_a_watcher_that_is_shut_out_already_is_no_finding() -> None:
    listed = frozenset({STRANGER})
    for volume in (changed(watchers=frozenset({CLIENT, STRANGER})), deleting(THEN, STRANGER)):
        assert "foreign-watcher" not in kinds(cluster(volume, blocklist=listed))
    assert kinds(cluster(deleting(NOW.isoformat(), STRANGER), blocklist=listed)) == []


def test_of_a_node_that_does_not_live_only_that_is_said() -> None:
    unwatched = changed(watchers=frozenset())
    assert kinds(cluster(unwatched, node=SILENT)) == ["no-living-node"]
    (finding,) = examine([cluster(unwatched, node=SILENT)], RULES)
    assert "watches, but does not answer" in finding.wrong
    assert kinds(cluster(node=SILENT)) == []  # nothing is attached to it


def test_a_node_id_of_two_machines_is_found() -> None:
    answers = Answers((Answer("m-1", "b-1"), Answer("m-2", "b-2")), 0)
    assert kinds(cluster(node=dataclasses.replace(NODE, answers=answers))) == ["node-id-twice"]
    again = Answers((Answer("m-1", "b-1"), Answer("m-1", "b-1")), 0)  # a plugin is being replaced
    assert kinds(cluster(node=dataclasses.replace(NODE, answers=again))) == []


def test_a_machine_that_was_refused_makes_its_node_id_used_twice() -> None:
    record = dataclasses.replace(RECORD, refused=Refused("m-2", THEN))
    (finding,) = examine([cluster(node=dataclasses.replace(NODE, record=record))], RULES)
    assert (finding.kind, finding.object) == ("node-id-twice", "n")
    assert "m-1, m-2" in finding.wrong


def test_a_watcher_that_all_living_nodes_allow_is_no_finding() -> None:
    watched = changed(watchers=frozenset({CLIENT, STRANGER}))
    allowing = dataclasses.replace(RECORD, allowed_watchers=("10.0.0.9/32",))
    nodes = {
        "n": dataclasses.replace(NODE, record=allowing),
        "lost": dataclasses.replace(SILENT, node_id="lost"),
    }
    assert kinds(cluster(watched, nodes=nodes)) == []
    assert kinds(cluster(watched, nodes={**nodes, "other": NODE})) == ["foreign-watcher"]
    assert "foreign-watcher" in kinds(cluster(watched, nodes={"n": SILENT}))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"in_force": False}, "fence-not-in-force"),
        ({"note": dataclasses.replace(NOTE, gone=THEN)}, "fence-past-its-time"),
        ({"note": dataclasses.replace(NOTE, boot_id="b-0")}, "fence-past-its-time"),
        ({"note": dataclasses.replace(NOTE, node_id="x")}, "fence-of-retired-node"),
        (
            {"note": dataclasses.replace(NOTE, machine_id="m-0", since=LAST_MONTH)},
            "fence-of-former-machine",
        ),
        ({"note": None, "damage": "m"}, "damaged-record"),
    ],
)
def test_a_state_of_a_fence_is_found(change: dict[str, object], kind: str) -> None:
    fence = dataclasses.replace(FENCE, **change)  # type: ignore[arg-type]
    assert kinds(cluster(fences=(fence,))) == [kind]


def test_a_damaged_record_of_a_snapshot_is_found() -> None:
    record = SnapshotRecord("s", str(VOLUME.handle), "csi-snap-s", 4)
    assert kinds(cluster(snapshots=(NotedSnapshot("s", record),))) == []
    assert kinds(cluster(snapshots=(NotedSnapshot("s", None, "m"),))) == ["damaged-record"]


def test_a_deleted_volume_that_waits_for_snapshots_of_the_driver_is_no_fault() -> None:
    header = Header(1, 1, 1, None, None, None, {}, (SNAPSHOT,))
    waiting = dataclasses.replace(deleting((NOW - timedelta(days=2)).isoformat()), header=header)
    record = SnapshotRecord("s", str(VOLUME.handle), "csi-snap-s", SNAPSHOT.snap_id)
    assert kinds(cluster(waiting)) == ["stuck-deletion"]
    assert kinds(cluster(waiting, snapshots=(NotedSnapshot("s", record),))) == []


@pytest.mark.parametrize(
    "identified", [{"taken": SnapshotHandle(VOLUME.handle, 4)}, {"source": VOLUME.handle}]
)
def test_a_snapshot_whose_record_is_damaged_is_not_to_be_removed(
    identified: dict[str, object],
) -> None:
    header = Header(1, 1, 1, None, None, None, {}, (SNAPSHOT,))
    waiting = dataclasses.replace(deleting(LONG_AGO), header=header)
    damaged = NotedSnapshot("s", None, "m", **identified)  # type: ignore[arg-type]
    assert kinds(cluster(waiting, snapshots=(damaged,))) == ["damaged-record"]
    other = dataclasses.replace(SNAPSHOT, snap_id=5)
    waiting = dataclasses.replace(waiting, header=dataclasses.replace(header, snapshots=(other,)))
    found = kinds(cluster(waiting, snapshots=(damaged,)))
    assert ("stuck-deletion" in found) == ("taken" in identified)


def test_a_deleted_volume_that_lost_its_parent_is_found_while_it_has_snapshots() -> None:
    lost = dataclasses.replace(deleting(NOW.isoformat()), parent_lost=True)
    assert kinds(cluster(lost)) == []
    of_clone = dataclasses.replace(SNAPSHOT, kind=SnapshotKind.TRASH, children=1)
    header = Header(1, 1, 1, None, None, None, {}, (of_clone,))
    assert kinds(cluster(dataclasses.replace(lost, header=header))) == ["lost-parent"]


def test_a_watch_that_outlives_its_client_is_ended_where_ceph_keeps_it() -> None:
    volume = deleting(LONG_AGO, STRANGER)
    (finding,) = examine([cluster(volume, blocklist=frozenset({STRANGER}))], RULES)
    assert finding.kind == "stuck-deletion"
    assert finding.commands == ("ceph osd map p rbd_header.a",)
    assert "ceph pg repeer" in finding.remedy


def test_a_fence_that_the_driver_may_not_lift_ends_by_itself() -> None:
    gone = dataclasses.replace(FENCE, note=dataclasses.replace(NOTE, gone=THEN))
    lacks = frozenset({"lift"})
    assert kinds(cluster(fences=(gone,), lacks=lacks)) == []
    ended = dataclasses.replace(gone, in_force=False)
    assert kinds(cluster(fences=(ended,), lacks=lacks)) == ["fence-past-its-time"]


def test_an_entry_without_a_note_is_a_finding_for_a_client_of_an_attachment_only() -> None:
    assert kinds(cluster(VOLUME, blocklist=frozenset({CLIENT}))) == ["blocklisted-client"]
    assert kinds(cluster(VOLUME, blocklist=frozenset({"10.0.0.8:0/8"}))) == []


def test_a_location_with_volumes_that_is_not_known_is_found_with_their_prefix() -> None:
    unknown = dataclasses.replace(LOCATION, prefixes=(), id=LocationId("c", 1, "apart"))
    its_spec = spec.from_request("a", "ext4", storage_class.parse({}))
    volume = changed(location=unknown, spec=its_spec)
    (finding,) = examine([cluster(volume, locations=(LOCATION, unknown))], RULES)
    assert (finding.kind, finding.object) == ("unknown-location", "p/apart")
    assert finding.commands == (
        "rados --pool p --namespace apart setomapval rbdcsi.location prefix.csi- 1",
    )
    assert kinds(cluster(locations=(LOCATION, unknown))) == []  # it holds nothing
    static = changed(location=unknown)
    assert kinds(cluster(static, locations=(LOCATION, unknown))) == []


@pytest.mark.parametrize("static", [True, False])
def test_a_location_that_is_not_registered_is_found(static: bool) -> None:
    apart = LocationFacts(
        LocationId("c", 7, "apart"), "q", () if static else ("csi-",), registered=False
    )
    volumes = (changed(location=apart),) if static else ()
    facts = cluster(*volumes, locations=(LOCATION, apart), home_namespace="home")
    (finding,) = examine([facts], RULES)
    assert (finding.kind, finding.object) == ("unknown-location", "q/apart")
    assert finding.commands == (
        "rados --pool p --namespace home setomapval rbdcsi.locations location/7/apart 1",
    )


def test_a_location_of_adopted_volumes_gets_the_prefix_of_their_images() -> None:
    unknown = dataclasses.replace(LOCATION, prefixes=(), id=LocationId("c", 1, "apart"))
    image = "csi-vol-0f2c8a51-9d5e-4c0e-8b61-2a7d3f4e5b6c"
    adopted = spec.VolumeSpec(image, "ext4", Layout(("layering",), 1 << 22), NodeOptions())
    volume = changed(location=unknown, image=image, spec=adopted)
    (finding,) = examine([cluster(volume, locations=(LOCATION, unknown))], RULES)
    assert finding.commands == (
        "rados --pool p --namespace apart setomapval rbdcsi.location prefix.csi-vol- 1",
    )


@pytest.mark.parametrize(
    ("facts", "about"),
    [
        ({"lacks": frozenset({"fence", "lift"})}, "fence"),
        ({"locations": (dataclasses.replace(LOCATION, may_change=False),)}, "p"),
        ({"locations": ()}, "p"),
    ],
)
def test_a_right_that_is_missing_is_found(facts: dict[str, object], about: str) -> None:
    (finding,) = examine([cluster(**facts)], RULES)  # type: ignore[arg-type]
    assert (finding.kind, finding.object) == ("missing-right", about)
    assert finding.commands == (
        "ceph auth caps client.rbdcsi "
        """mon 'profile rbd, allow command "osd blocklist" with blocklistop=rm' """
        "osd 'profile rbd pool=p'",
    )


def test_a_pool_or_cluster_that_cannot_be_read_is_found() -> None:
    sick = dataclasses.replace(LOCATION, failure="it hangs")
    assert kinds(cluster(locations=(sick,))) == ["unreadable"]
    assert kinds(Cluster("c", NOW, failure="no monitor")) == ["unreadable"]


def test_a_finding_of_the_first_look_only_is_none() -> None:
    one, two = (Finding("k", "c", name, "w", "h", "r") for name in ("one", "two"))
    assert lasting([one], [one, two]) == [one]
    assert lasting([one], []) == []
