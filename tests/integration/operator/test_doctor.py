"""The doctor finds each state that does not mend itself, and its remedies mend it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e import snapshots, volume
from e2e.clusters import Cluster, commands, controller_caps
from e2e.driver import CLUSTER_ID, Driver, Installation
from rbdcsi.attachments.fences import Fences
from rbdcsi.ceph import omap
from rbdcsi.ceph.flattening import Claims
from rbdcsi.runtime import clock
from rbdcsi.snapshots import store
from tests.integration.controller.view import View
from tests.integration.operator.conftest import Hold
from tests.integration.operator.shell import Shell
from tests.integration.operator.states import MAKERS, NO_CLIENT, A, Bench, Make

pytestmark = [
    pytest.mark.usefixtures("nothing_left", "no_fences_left"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def bench(
    installation: Installation, controller: Driver, view: View, shell: Shell, hold: Hold
) -> Bench:
    """Give what the states are made with, in a place that the driver knows."""
    made = Bench(installation, controller, view, shell, hold)
    volume.delete(controller, volume.create(controller, "first", size=16 * volume.MIB))
    return made


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_state_is_found_and_its_remedy_mends_it(bench: Bench, shell: Shell, make: Make) -> None:
    with make(bench) as state:
        (finding,) = shell.findings()
        assert finding["kind"] == state.kind
        assert finding["object"].endswith(state.about)
        assert finding["wrong"]
        assert finding["hinders"]
        assert finding["remedy"]
        state.by_hand()
        shell.mend(finding)
        state.wake()
        commands.wait_until(lambda: not shell.findings(), "the doctor finds nothing", timeout=120)


@pytest.fixture
def poor(cluster: Cluster, shell: Shell, pool: str, tmp_path: Path) -> Iterator[Shell]:
    """Give a shell whose Ceph user may not fence."""
    key = cluster.create_user("poor", {**controller_caps(pool), "mon": "allow r"})
    settings = yaml.safe_load(shell.config.read_text())
    (entry,) = settings["clusters"]
    entry.pop("keyring")
    entry.update(user="poor", key=key.reveal())
    config = tmp_path / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(settings))
    yield dataclasses.replace(shell, config=config)
    cluster.ceph("auth", "rm", "client.poor")


@pytest.mark.usefixtures("bench")
def test_a_right_that_is_missing_is_found_and_its_remedy_gives_it(
    cluster: Cluster, poor: Shell, pool: str
) -> None:
    (finding,) = poor.findings()
    assert (finding["kind"], finding["object"]) == ("missing-right", "fence")
    poor.mend(finding)
    assert poor.findings() == []
    cluster.ceph(
        *("auth", "caps", "client.poor", "mon", "profile rbd"),
        *("osd", f"allow r pool={pool}"),
    )
    (finding,) = poor.findings()
    assert (finding["kind"], finding["object"]) == ("missing-right", pool)
    poor.mend(finding)
    assert poor.findings() == []


def test_a_fence_that_the_user_may_not_lift_waits_for_its_end(
    bench: Bench, cluster: Cluster, poor: Shell, pool: str
) -> None:
    bench.controller.stop()  # it may lift the fence
    osd = controller_caps(pool)["osd"]
    cluster.ceph("auth", "caps", "client.poor", "mon", "profile rbd", "osd", osd)
    bench.fence(gone=clock.now())
    cluster.ceph("osd", "blocklist", "add", NO_CLIENT, "3600")
    assert poor.findings() == []
    done = poor.run("fences", "lift", NO_CLIENT)
    note = Fences(bench.view.ioctx).get(NO_CLIENT)
    bench.controller.start()  # it lifts the fence
    assert done.returncode == 1
    assert f"run `ceph osd blocklist rm {NO_CLIENT}` as an administrator" in done.stderr
    assert note


def test_a_healthy_cluster_has_no_findings_while_volumes_are_used(
    bench: Bench, nodes: tuple[Driver, Driver], shell: Shell
) -> None:
    with bench.volume("healthy") as made:
        volume.attach(bench.controller, made, nodes[0].name)
        volume.stage(nodes[0], made)
        done = shell.run("doctor")
        volume.unstage(nodes[0], made)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing found\n", "")


def test_the_controller_that_flattens_an_image_is_no_finding(
    bench: Bench, shell: Shell, hold: Hold
) -> None:
    claims = Claims(bench.view.ioctx)
    with bench.volume("flattened") as made, hold(made) as address:
        bench.controller.stop()  # it would end the claim
        image_id = bench.view.image_id(made)
        assert claims.begin(image_id, address)
        assert shell.findings() == []
        claims.end(image_id, address)
        (finding,) = shell.findings()
    assert (finding["kind"], finding["object"]) == ("foreign-watcher", made.id)


def test_a_snapshot_whose_record_is_damaged_is_not_to_be_removed(
    bench: Bench, shell: Shell
) -> None:
    with bench.volume("kept") as made:
        taken = snapshots.create(bench.controller, "kept", made.id).snapshot_id
    records, key = omap.Omap(bench.view.ioctx, store.OBJECT), store.name_key("kept")
    intact = records.get(key)
    records.put(key, "{")
    (finding,) = shell.findings()
    assert (finding["kind"], finding["object"]) == ("damaged-record", "snapshot kept")
    records.put(key, intact)
    snapshots.delete(bench.controller, taken)
    bench.view.wait_until_gone(bench.view.image_id(made))


def test_a_cluster_that_does_not_answer_is_a_finding_and_hides_no_other(
    bench: Bench, shell: Shell, tmp_path: Path
) -> None:
    assert bench.controller.process
    settings = yaml.safe_load(shell.config.read_text())
    other = {**settings["clusters"][0], "clusterID": "other", "pool": "missing"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"clusters": [other, *settings["clusters"]]}))
    (finding,) = dataclasses.replace(shell, config=config).findings()
    assert (finding["kind"], finding["object"]) == ("unreadable", "other")


@pytest.fixture(params=["", "second-home"], ids=["one-home", "two-homes"])
def twice(
    request: pytest.FixtureRequest, cluster: Cluster, shell: Shell, pool: str, tmp_path: Path
) -> Iterator[Shell]:
    """Give a shell whose configuration has two clusterIDs of the Ceph, the new one first."""
    namespace = request.param
    if namespace:
        cluster.rbd("namespace", "create", f"{pool}/{namespace}")
    settings = yaml.safe_load(shell.config.read_text())
    other = {**settings["clusters"][0], "clusterID": "another", "radosNamespace": namespace}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"clusters": [other, *settings["clusters"]]}))
    yield dataclasses.replace(shell, config=config)
    if namespace:
        cluster.rbd("namespace", "remove", f"{pool}/{namespace}")


def test_two_cluster_ids_of_one_ceph_are_no_finding(bench: Bench, twice: Shell) -> None:
    with bench.volume("seen-twice") as made:
        volume.attach(bench.controller, made, A)
        asked = twice.run("nodes", "fence", A)
        assert "all volumes at node node-a (1)" in asked.stderr
        taken = snapshots.create(bench.controller, "seen-twice", made.id).snapshot_id
    assert twice.findings() == []
    (row,) = twice.json("volumes", "ls")
    assert (row["image"].startswith("rbdcsi.deleted."), row["state"]) == (True, "waiting")
    (row,) = twice.json("snapshots", "ls")
    assert (row["name"], row["state"]) == ("seen-twice", "ready")
    for cluster_id in (CLUSTER_ID, "another"):
        handle = taken.replace(f":{CLUSTER_ID}:", f":{cluster_id}:")
        assert twice.json("snapshots", "show", handle)["state"] == "ready"
    snapshots.delete(bench.controller, taken)
    bench.view.wait_until_gone(bench.view.image_id(made))
