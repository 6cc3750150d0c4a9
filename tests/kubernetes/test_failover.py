"""A node's machine is switched off: Pods go on at another node, with all that was durable."""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from e2e import driver, leftovers, vm
from e2e.clusters import commands
from e2e.kubernetes import chart, controllers, workload
from e2e.kubernetes.client import Kubernetes, Object
from e2e.kubernetes.lab import Lab
from e2e.kubernetes.nodes import Node
from e2e.kubernetes.writer import Writer

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
FENCED = "client fenced, because its node did not release the volume"
ENOUGH = 20  # lines that each writer makes durable before the story goes on
LONGEST = 600  # seconds: without the taint Kubernetes itself waits for 360


@dataclass(frozen=True)
class Scene:
    """Where the story plays: `old` is the node that fails, `new` the one that goes on."""

    lab: Lab
    namespace: workload.Namespace
    writers: Sequence[Writer]
    old: Node
    new: Node

    @property
    def kubernetes(self) -> Kubernetes:
        return self.lab.kubernetes

    @property
    def pods(self) -> Sequence[str]:
        return [writer.pod for writer in self.writers]


def _set_taint(scene: Scene) -> None:
    taint = f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute"
    scene.kubernetes.kubectl("taint", "node", scene.old.machine.name, taint)


def _delete_by_force(scene: Scene) -> None:
    words = ("delete", "pod", "-n", scene.namespace.name, "--force", "--grace-period=0")
    scene.kubernetes.kubectl(*words, *scene.pods)


# What a person does who knows that the machine is off.
WAYS = {"taint": _set_taint, "force-delete": _delete_by_force}


@pytest.fixture
def scene(own_lab: Lab, namespace: workload.Namespace, tmp_path: Path) -> Iterator[Scene]:
    """Give writers to volumes of both kinds, which run at the node of the leading controller."""
    leader = controllers.spread(own_lab.kubernetes)
    old, new = sorted(own_lab.nodes, key=lambda node: node.machine.name != leader)
    writers = [
        Writer(namespace, tmp_path, "filesystem"),
        Writer(namespace, tmp_path, "raw", block=True),
    ]
    try:
        for writer in writers:
            writer.start(old.machine.name)
            writer.follow()
        yield Scene(own_lab, namespace, writers, old, new)
    finally:
        for writer in writers:
            writer.stop_following()


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("way", ["taint", pytest.param("force-delete", marks=pytest.mark.long)])
def test_pods_of_a_machine_that_is_off_go_on_with_all_durable_lines(
    scene: Scene, figures: Callable[[str], None], way: str
) -> None:
    old, new = scene.old.machine, scene.new.machine
    _wait_for_lines(scene, old.name)
    clients = set[str]().union(*_watchers(scene))
    assert len(clients) == len(scene.writers)
    with _switched_off(scene) as seconds_to_notice:
        seconds = _move(scene, way)
        _check(scene, [old.name, new.name])
        calls = _check_what_an_operator_sees(scene, clients)
        moved = _pods(scene)
        assert {pod["spec"]["nodeName"] for pod in moved} == {new.name}
    seconds_to_clean = _wait_until_clean(scene, clients)
    _wait_for_lines(scene, new.name)
    assert list(map(_life, _pods(scene))) == list(map(_life, moved)), "they were not disturbed"
    scene.kubernetes.kubectl("delete", "pod", "-n", scene.namespace.name, *scene.pods)
    for writer in scene.writers:
        writer.follow()
    _wait_for_lines(scene, old.name)
    _check(scene, [old.name, new.name, old.name])
    told = ", ".join(f"{what} {value:.1f} s" for what, value in seconds.items())
    figures(
        f"fail-over through Kubernetes: node not ready after {seconds_to_notice:.1f} s; {way}: "
        f"{told}; calls of ControllerUnpublishVolume {calls} s; "
        f"clean {seconds_to_clean:.1f} s after the node was ready again"
    )


@contextlib.contextmanager
def _switched_off(scene: Scene) -> Iterator[float]:
    """Switch the old node's machine off, and on again after the body.

    Gives the seconds until Kubernetes noticed.
    """
    machine, kubernetes = scene.old.machine, scene.kubernetes
    # The kubelet syncs nothing that it notes of volumes, and cleans up by these notes.
    machine.run("sync", "--file-system", vm.KUBELET)
    machine.kill()
    switched_off_at = time.monotonic()
    try:
        kubernetes.wait_for("node", machine.name, "condition=Ready=Unknown")
        yield time.monotonic() - switched_off_at
    finally:
        machine.start()
        scene.lab.start(scene.old)
        node = kubernetes.get("node", machine.name)
        if node and any(taint["key"] == OUT_OF_SERVICE for taint in node["spec"].get("taints", [])):
            kubernetes.kubectl("taint", "node", machine.name, f"{OUT_OF_SERVICE}-")


def _move(scene: Scene, way: str) -> Mapping[str, float]:
    """Have Kubernetes move the Pods, and return the seconds until each step was done."""
    kubernetes, namespace, old = scene.kubernetes, scene.namespace, scene.old.machine.name
    left = {pod["metadata"]["uid"] for pod in _pods(scene)}
    volumes = {namespace.volume(writer.claim)["metadata"]["name"] for writer in scene.writers}
    seconds: dict[str, float] = {}
    begin = time.monotonic()

    def note(what: str) -> None:
        seconds.setdefault(what, time.monotonic() - begin)

    def detached() -> bool:
        attachments = [each["spec"] for each in kubernetes.list("volumeattachments")]
        return not any(
            each["nodeName"] == old and each["source"]["persistentVolumeName"] in volumes
            for each in attachments
        )

    def all_write() -> bool:
        writing = [writer for writer in scene.writers if _reported(writer, scene.new.machine.name)]
        for writer in writing:
            note(f"{writer.name} written")
        return len(writing) == len(scene.writers)

    WAYS[way](scene)
    kubernetes.wait(
        lambda: left.isdisjoint(pod["metadata"]["uid"] for pod in _pods(scene)), "Pods are deleted"
    )
    note("Pods deleted")
    for writer in scene.writers:
        writer.follow()
    kubernetes.wait(detached, f"the volumes are detached from {old}", LONGEST)
    note("volumes detached")
    kubernetes.wait(all_write, "all write at the other node", LONGEST)
    return seconds


def _wait_for_lines(scene: Scene, node: str) -> None:
    """Return when each writer has written some more lines at a node."""
    wanted = {writer: _reported(writer, node) + ENOUGH for writer in scene.writers}
    scene.kubernetes.wait(
        lambda: all(_reported(writer, node) >= count for writer, count in wanted.items()),
        f"{ENOUGH} lines more of each writer at {node}",
        LONGEST,
    )


def _reported(writer: Writer, node: str) -> int:
    return sum(line.node == node for line in writer.reports())


def _check(scene: Scene, nodes: Sequence[str]) -> None:
    """Check that each Pod reads all reported lines, none twice, of nodes in this order."""
    for writer in scene.writers:
        reports, lines = writer.reports(), writer.lines()
        assert set(reports) <= set(lines), writer.name
        assert [line.number for line in lines] == list(range(1, len(lines) + 1)), writer.name
        assert [node for node, _ in itertools.groupby(line.node for line in lines)] == nodes


def _check_what_an_operator_sees(scene: Scene, clients: set[str]) -> Sequence[float]:
    """Check that log and `rbdcsi fences` name clients and node; return how long calls took."""
    node_id = f"{chart.CLUSTER_NAME}/{scene.old.machine.name}"
    pod = controllers.leader(scene.kubernetes)["metadata"]["name"]
    log = scene.kubernetes.kubectl("logs", "-n", chart.NAMESPACE, pod, "-c", "driver")
    lines = [line for line in log.splitlines() if line.startswith("{")]  # others are of librados
    events = [event for event in map(json.loads, lines) if event.get("node") == node_id]
    assert {event["client"] for event in events if event["event"] == FENCED} == clients
    rows = [row for row in _fences(scene) if row["node"] == node_id]
    assert {row["client"] for row in rows} == clients
    assert all(row["in_force"] for row in rows)
    return [
        event["seconds"]
        for event in events
        if event["event"] == "call" and event["method"] == "ControllerUnpublishVolume"
    ]


def _fences(scene: Scene) -> Sequence[Object]:
    """Return the rows of `rbdcsi fences ls`, run here: it needs Ceph alone."""
    cluster = scene.lab.cluster
    entry = {
        "clusterID": chart.CLUSTER_ID,
        "confFile": str(cluster.conf),
        "pool": chart.POOL,
        "user": cluster.user,
        "keyring": str(cluster.keyring),
    }
    config = cluster.directory / "operator.yaml"
    config.write_text(yaml.safe_dump({"clusters": [entry]}))
    words = ("fences", "ls", "--json", "--config", config)
    rows: Sequence[Object] = json.loads(commands.run([*driver.PROGRAM, *words]))
    return rows


def _wait_until_clean(scene: Scene, clients: set[str]) -> float:
    """Return how long it took until nothing at the old node or in Ceph was left of the move."""
    begin, at_new = time.monotonic(), scene.new.machine.address

    def clean() -> bool:
        return (
            not _kept_by_kubelet(scene)
            and not _are_fenced(scene, clients)
            and all(
                len(watchers) == 1 and watchers.pop().startswith(f"{at_new}:")
                for watchers in _watchers(scene)
            )
        )

    old = scene.old.machine.name
    scene.kubernetes.wait(clean, f"nothing is left of the move from {old}", LONGEST)
    return time.monotonic() - begin


def _kept_by_kubelet(scene: Scene) -> str:
    """Return the paths of volumes that the old node's kubelet keeps."""
    names = [scene.namespace.volume(writer.claim)["metadata"]["name"] for writer in scene.writers]
    tests = [word for name in names for word in ("-o", "-name", f"*{name}*")]
    tests = ["-name", "vol_data.json", *tests]
    return scene.old.machine.run("find", vm.KUBELET, "(", *tests, ")").text


def _are_fenced(scene: Scene, clients: set[str]) -> bool:
    """Return whether any of the clients is on Ceph's blocklist."""
    with scene.lab.cluster.connection() as connection:
        listed = clients.intersection(leftovers.blocklisted(connection))
    return bool(listed)


def _watchers(scene: Scene) -> Sequence[set[str]]:
    """Return the clients that have the image of each writer open."""
    images = [scene.namespace.image(writer.claim) for writer in scene.writers]
    shown = [
        scene.lab.cluster.rbd("status", f"{chart.POOL}/{image}", "--format", "json")
        for image in images
    ]
    return [{watcher["address"] for watcher in json.loads(each)["watchers"]} for each in shown]


def _pods(scene: Scene) -> Sequence[Object]:
    """Return the writers' Pods, in the order of their names."""
    found = scene.kubernetes.list("pods", scene.namespace.name)
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def _life(pod: Object) -> tuple[str, int]:
    """Return what changes when a Pod, or its container, begins again."""
    (container,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], container["restartCount"]
