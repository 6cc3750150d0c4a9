"""What restarts while volumes are in use: the driver's parts, a node, the whole installation."""

import json

import pytest

from e2e.kubernetes import chart, lab, workload
from e2e.kubernetes.client import Kubernetes, Object

Namespace = workload.Namespace
# Counts up, each number on disk before the next.
COUNT = "i=0; while :; do i=$((i+1)); echo $i >>/data/count; sync /data/count; done"
LAST = "tail -n 1 /data/count"


@pytest.mark.parametrize(
    "storage_class", [pytest.param("rbd", marks=pytest.mark.smoke), "rbd-nbd", "rbd-fuse"]
)
def test_a_node_plugin_that_is_killed_stops_no_writer(
    namespace: Namespace, nodes: list[str], storage_class: str
) -> None:
    """With nbd and fuse a process serves the volume; it outlives the plugin's container."""
    namespace.claim("data", storage_class=storage_class)
    namespace.start("writer", "data", node=nodes[0], command=["sh", "-c", COUNT])
    _counts_on(namespace, "writer", 0)
    _replace_pods(namespace.kubernetes, "node", nodes[0])
    seen = _counts_on(namespace, "writer", int(namespace.run("writer", LAST)))
    namespace.delete("pod", "writer")
    namespace.start("reader", "data", node=nodes[1])
    counted = list(map(int, namespace.run("reader", "cat /data/count").split()))
    assert counted == list(range(1, len(counted) + 1))
    assert len(counted) >= seen


def test_claims_are_served_while_the_controllers_are_killed(namespace: Namespace) -> None:
    names = [f"data-{number}" for number in range(10)]
    for name in names:
        namespace.claim(name)
        namespace.create(f"pod-{name}", name)
    _replace_pods(namespace.kubernetes, "controller")
    for name in names:
        namespace.wait_for_pod(f"pod-{name}")
    assert len({namespace.image(name) for name in names}) == len(names)


def test_a_pod_finds_its_data_after_its_node_was_booted_again(
    own_lab: lab.Lab, namespace: Namespace
) -> None:
    node = own_lab.nodes[0]
    namespace.claim("data")
    namespace.start("writer", "data", node=node.machine.name)
    written = namespace.run("writer", "echo before the reboot >/data/file; sync; cat /data/file")
    boot = _boot_id(own_lab, node.machine.name)
    node.machine.reboot()
    own_lab.start(node)
    namespace.kubernetes.wait(
        lambda: _boot_id(own_lab, node.machine.name) != boot, "the node says that it was booted"
    )

    def restarted() -> bool:
        found = namespace.kubernetes.get("pod", "writer", namespace.name)
        statuses = found["status"].get("containerStatuses", []) if found else []
        return any(each["restartCount"] and each["ready"] for each in statuses)

    namespace.kubernetes.wait(restarted, "the Pod runs again", 300)
    assert namespace.run("writer", "cat /data/file") == written
    assert "/dev/rbd" in namespace.run("writer", "grep ' /data ' /proc/mounts")


def test_what_is_installed_again_finds_the_volumes_again(
    own_lab: lab.Lab, namespace: Namespace
) -> None:
    namespace.claim("data")
    namespace.start("first", "data")
    namespace.run("first", "echo kept >/data/file; sync")
    namespace.delete("pod", "first")
    values = own_lab.plane.directory.parent / "values.yaml"
    chart.uninstall(namespace.kubernetes)
    try:
        assert _left(namespace.kubernetes) == []
    finally:
        chart.install(namespace.kubernetes, values)
    namespace.start("second", "data")
    assert namespace.run("second", "cat /data/file") == "kept\n"


def _counts_on(namespace: Namespace, pod: str, number: int) -> int:
    """Return what the Pod has counted to as soon as that is more than the number."""
    more = f'last=$({LAST} 2>/dev/null) && [ "$last" -gt {number} ]'
    return int(namespace.run(pod, f"until {more}; do sleep 0.2; done; echo $last"))


def _replace_pods(kubernetes: Kubernetes, component: str, node: str = "") -> None:
    """Kill the driver's Pods of a component, and return when others are ready."""
    selector = f"app.kubernetes.io/component={component}"

    def of_component() -> list[Object]:
        pods = kubernetes.list("pods", chart.NAMESPACE, selector)
        return [pod for pod in pods if node in ("", pod["spec"].get("nodeName"))]

    old = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in of_component()}
    assert old, f"there is no Pod with {selector}"
    kubernetes.kubectl(
        "delete", "pod", "-n", chart.NAMESPACE, "--force", "--grace-period=0", *old.values()
    )

    def replaced() -> bool:
        ready = [pod["metadata"]["uid"] for pod in of_component() if workload.is_ready(pod)]
        return len(ready) == len(old) and old.keys().isdisjoint(ready)

    kubernetes.wait(replaced, f"other Pods with {selector} are ready")


def _boot_id(own_lab: lab.Lab, node: str) -> str:
    found = own_lab.kubernetes.get("node", node)
    assert found
    return str(found["status"]["nodeInfo"]["bootID"])


def _left(kubernetes: Kubernetes) -> list[str]:
    """Return the names of objects, in any namespace or none, that are the release's."""
    kinds = kubernetes.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    chosen = ["-l", f"app.kubernetes.io/instance={chart.RELEASE}"]
    text = kubernetes.kubectl("get", ",".join(kinds), "-A", *chosen, "-o", "json")
    return [f"{each['kind']} {each['metadata']['name']}" for each in json.loads(text)["items"]]
