"""The operator's lists and verbs, against Ceph alone."""

import dataclasses
import json
import os
from io import FileIO

import pytest
import rados

from e2e import groups, leftovers, snapshots, volume
from e2e.clusters import Cluster, commands
from e2e.driver import Driver, Installation
from rbdcsi.attachments import store
from rbdcsi.attachments.fences import Fences
from rbdcsi.nodes import presence, registry
from rbdcsi.runtime import clock
from tests.integration.controller.view import View
from tests.integration.operator.conftest import Hold
from tests.integration.operator.shell import Shell
from tests.integration.operator.states import NO_CLIENT, A, Bench

pytestmark = [
    pytest.mark.usefixtures("nothing_left", "no_fences_left"),
    pytest.mark.timeout(300),
]
B = "node-b"


@pytest.fixture(scope="module")
def bench(
    installation: Installation, controller: Driver, view: View, shell: Shell, hold: Hold
) -> Bench:
    """Give what the states are made with."""
    return Bench(installation, controller, view, shell, hold)


def test_lists_show_a_volume_with_its_node_and_client(
    bench: Bench, nodes: tuple[Driver, Driver], shell: Shell
) -> None:
    with bench.volume("listed") as made:
        volume.attach(bench.controller, made, A)
        volume.stage(nodes[0], made)
        (client,) = bench.view.watchers(made)
        (row,) = shell.json("volumes", "ls")
        assert (row["volume"], row["image"], row["size_bytes"]) == (
            made.id,
            "csi-listed",
            made.size,
        )
        assert (row["use"], row["state"], row["nodes"]) == ("ext4 (formatted)", "attached", [A])
        assert (row["watchers"], row["damage"]) == ([client], [])
        (attachment,) = shell.json("attachments", "ls")
        assert (attachment["volume"], attachment["node"]) == (made.id, A)
        assert (attachment["state"], attachment["clients"]) == ("staged", [client])
        shown = shell.json("attachments", "show", made.id)
        assert [each["node_answers"] for each in shown["attachments"]] == [True]
        assert [(each["client"], each["watches"]) for each in shown["clients"]] == [(client, True)]
        rows = {row["node"]: row for row in shell.json("nodes", "ls")}
        assert (rows[A]["plugin"], rows[A]["volumes"]) == ("answers", [made.id])
        assert (rows[B]["plugin"], rows[B]["attached"]) == ("answers", 0)
        (node,) = shell.json("nodes", "show", A)
        assert node == rows[A]
        assert shell.json("volumes", "show", made.id)["metadata"]["rbdcsi.filesystem"]
        (usage,) = shell.json("volumes", "du")
        assert 0 < usage["used_bytes"] <= made.size
        assert shell.json("volumes", "ls", "--pool", "elsewhere") == []
        table = shell.run("volumes", "ls").stdout.splitlines()
        assert table[0].split()[:4] == ["VOLUME", "POOL", "IMAGE", "SIZE"]
        assert [made.id in line for line in table] == [False, True]
        volume.unstage(nodes[0], made)


def test_a_member_is_shown_with_the_names_of_its_group(bench: Bench, shell: Shell) -> None:
    names = {"volumegroupsnapshot/name": "before-upgrade", "volumegroupsnapshot/namespace": "shop"}
    parameters = {f"csi.storage.k8s.io/{name}": value for name, value in names.items()}
    with bench.volume("grouped") as made:
        group = groups.create(bench.controller, "g", [made.id], parameters=parameters)
        (member,) = group.snapshots
        assert shell.json("snapshots", "show", member.snapshot_id)["kubernetes"] == names
        groups.delete(bench.controller, group.group_snapshot_id)


def test_snapshots_are_shown_with_what_waits_for_them(
    cluster: Cluster, bench: Bench, shell: Shell, pool: str
) -> None:
    with bench.volume("snapped") as made:
        names = {"csi.storage.k8s.io/volumesnapshot/name": "before-upgrade"}
        parameters = {"freeze": "true", **names}
        taken = snapshots.create(bench.controller, "s", made.id, parameters=parameters)
        cluster.rbd("snap", "create", f"{pool}/csi-snapped@by-hand")
        ours, foreign = shell.json("snapshots", "ls")
        assert (ours["snapshot"], ours["name"], ours["volume"]) == (taken.snapshot_id, "s", made.id)
        assert (ours["state"], ours["clones"], ours["size_bytes"]) == ("ready", 0, made.size)
        assert ours["kubernetes"] == {"volumesnapshot/name": "before-upgrade"}
        assert (foreign["rbd_snapshot"], foreign["state"]) == ("by-hand", "unmanaged")
        assert (ours["frozen"], foreign["frozen"]) == (True, None)
        assert shell.json("snapshots", "show", taken.snapshot_id) == ours
        assert shell.json("snapshots", "ls", "--volume", made.id) == [ours, foreign]
        assert shell.json("snapshots", "ls", "--volume", f"{made.id}0") == []
        assert taken.snapshot_id in shell.run("snapshots", "ls").stdout
        gone = f"{taken.snapshot_id}0"
        missing = shell.run("snapshots", "show", gone)
        assert missing.returncode == 1
        assert missing.stderr == f"rbdcsi: snapshot {gone} does not exist\n"

        cluster.rbd("snap", "rm", f"{pool}/csi-snapped@by-hand")
        source, clone = f"{pool}/csi-snapped@csi-snap-s", f"{pool}/clone"
        cluster.rbd("clone", "--rbd-default-clone-format", "2", source, clone)
        volume.delete(bench.controller, made)
        (row,) = shell.json("volumes", "ls")
        assert (row["state"], row["image"].startswith("rbdcsi.deleted.")) == ("waiting", True)
        assert shell.json("volumes", "show", made.id)["waits_for"] == "1 snapshot"
        assert shell.json("snapshots", "show", taken.snapshot_id)["volume_deleted"]
        assert shell.findings() == []
        snapshots.delete(bench.controller, taken.snapshot_id)
        assert shell.json("volumes", "show", made.id)["waits_for"] == "1 clone"
        (kept,) = shell.json("snapshots", "ls")
        assert (kept["state"], kept["clones"], kept["name"]) == ("deleted", 1, None)
        assert shell.findings() == []
        cluster.rbd("rm", clone)


def test_a_damaged_record_is_a_row(bench: Bench, shell: Shell) -> None:
    with bench.volume("broken") as made:
        image_id = bench.view.image_id(made)
        bench.put(store.object_name(image_id), image_id, "{")
        (row,) = shell.json("attachments", "ls")
        assert (row["volume"], row["state"]) == (made.id, "damaged")
        assert "attachment record is damaged" in row["damage"]
        (listed,) = shell.json("volumes", "ls")
        assert listed["state"] == "damaged"
        bench.put(store.object_name(image_id), image_id, None)
    bench.put("rbdcsi.nodes", "node-broken", "{")
    rows = {row["node"]: row for row in shell.json("nodes", "ls")}
    assert "node record is damaged" in rows["node-broken"]["damage"]
    assert shell.run("nodes", "retire", "node-broken", "--yes").returncode == 0


def test_release_asks_and_then_shuts_the_client_out(
    bench: Bench, nodes: tuple[Driver, Driver], shell: Shell, admin: rados.Rados
) -> None:
    made = volume.create(
        bench.controller, "released", size=16 * volume.MIB, capability=volume.raw()
    )
    volume.attach(bench.controller, made, A)
    volume.stage(nodes[0], made)
    target = volume.publish(nodes[0], made)  # a workload uses it
    (client,) = bench.view.watchers(made)
    before = bench.view.record(made)
    done = shell.run("attachments", "release", made.id, A)
    assert (done.returncode, "repeat it with --yes" in done.stderr) == (1, True)
    assert shell.run("attachments", "release", made.id, A, answer="n").returncode == 1
    assert bench.view.record(made) == before
    bench.controller.stop()  # it would lift the fence as soon as the node has cleaned up
    with target.open("r+b", buffering=0) as device:
        done = shell.run("attachments", "release", made.id, A, answer="y")
        text = f"volume {made.id} is no longer attached to node {A}\n"
        assert (done.returncode, done.stdout) == (0, text)
        assert bench.view.record(made).attachments == {}
        assert client in set(leftovers.blocklisted(admin))
        with pytest.raises(OSError, match="error"):
            _write(device)
    (fence,) = shell.json("fences", "ls")
    assert (fence["client"], fence["node"], fence["volume"]) == (client, A, made.id)
    assert fence["in_force"]
    bench.controller.start()
    volume.unpublish(nodes[0], made)
    volume.unstage(nodes[0], made)
    volume.delete(bench.controller, made)


def _write(device: FileIO) -> None:
    device.write(bytes(4096))
    os.fsync(device.fileno())


def test_a_volume_that_is_not_attached_needs_no_release(bench: Bench, shell: Shell) -> None:
    with bench.volume("free") as made:
        done = shell.run("attachments", "release", made.id, A)
        assert (done.returncode, done.stdout) == (
            0,
            f"volume {made.id} is not attached to node {A}\n",
        )


def test_fence_ends_all_attachments_of_a_node_and_no_other(bench: Bench, shell: Shell) -> None:
    with bench.volume("one") as one, bench.volume("two") as two, bench.volume("other") as other:
        for made in (one, two):
            volume.attach(bench.controller, made, A)
        volume.attach(bench.controller, other, B)
        done = shell.run("nodes", "fence", A)
        assert (done.returncode, f"all volumes at node {A} (2)" in done.stderr) == (1, True)
        done = shell.run("nodes", "fence", A, "--yes")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
        assert bench.view.attached_to(A) == frozenset()
        assert bench.view.record(other).attachments.keys() == {B}
        done = shell.run("nodes", "fence", A, "--yes")
        assert (done.returncode, done.stdout) == (0, f"node {A} has no volumes attached\n")


def test_a_node_is_retired_when_its_plugin_has_gone(
    bench: Bench, installation: Installation, shell: Shell
) -> None:
    node = installation.node("node-old").start()
    home = bench.view.ioctx
    commands.wait_until(
        lambda: registry.Nodes(home).text("node-old") is not None, "it is registered"
    )
    with bench.volume("old") as made:
        volume.attach(bench.controller, made, "node-old")
        done = shell.run("nodes", "retire", "node-old", "--yes")
        assert (done.returncode, "its node plugin runs" in done.stderr) == (1, True)
        node.stop()
        done = shell.run("nodes", "retire", "node-old", "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert bench.view.record(made).attachments == {}
    assert registry.Nodes(home).text("node-old") is None
    with pytest.raises(rados.ObjectNotFound):
        home.stat(presence.object_name("node-old"))
    done = shell.run("nodes", "retire", "node-old", "--yes")
    assert (done.returncode, "there is no node 'node-old'" in done.stderr) == (1, True)


def test_a_fence_is_lifted_if_its_client_is_proved_gone_or_a_person_says_so(
    bench: Bench, shell: Shell, admin: rados.Rados
) -> None:
    fence = bench.fence()
    shell.cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
    done = shell.run("fences", "lift", NO_CLIENT)
    assert (done.returncode, "is not proved gone" in done.stderr) == (1, True)
    assert NO_CLIENT in set(leftovers.blocklisted(admin))
    assert shell.run("fences", "lift", NO_CLIENT, "--yes").returncode == 0
    assert NO_CLIENT not in set(leftovers.blocklisted(admin))
    assert Fences(bench.view.ioctx).get(NO_CLIENT) is None
    bench.controller.stop()  # it would lift the next one
    Fences(bench.view.ioctx).put(dataclasses.replace(fence, gone=clock.now()))
    done = shell.run("fences", "lift", NO_CLIENT)
    bench.controller.start()
    assert (done.returncode, done.stdout) == (0, f"the fence of client {NO_CLIENT} is lifted\n")
    done = shell.run("fences", "lift", NO_CLIENT)
    assert (done.returncode, "has no fence of client" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["volumes", "show", "no handle"], "does not exist"),
        (["volumes", "show", "v1:local:{pool}::123456"], "does not exist"),
        (["attachments", "show", "v1:elsewhere:1::a"], "'elsewhere' is not in the driver's"),
        (["nodes", "show", "ghost"], "there is no node 'ghost'"),
    ],
)
def test_what_does_not_exist_is_refused_with_its_name(
    bench: Bench, shell: Shell, words: list[str], text: str
) -> None:
    pool = str(bench.view.ioctx.get_pool_id())
    done = shell.run(*(word.format(pool=pool) for word in words))
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_configuration_with_mistakes_ends_with_2(shell: Shell) -> None:
    broken = dataclasses.replace(shell, config=shell.config.with_name("missing.yaml"))
    done = broken.run("nodes", "ls", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.yaml cannot be read" in done.stderr


def test_an_empty_list_is_json_too(shell: Shell, bench: Bench) -> None:
    assert bench.controller.process
    assert json.loads(shell.run("fences", "ls", "--json").stdout) == []
    assert shell.run("fences", "ls").stdout.split()[:2] == ["CLIENT", "CLUSTER"]
