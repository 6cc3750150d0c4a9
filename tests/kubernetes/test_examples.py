"""deploy/examples: this API server takes each, and what has what it needs runs."""

from pathlib import Path

import pytest
import yaml

from e2e.kubernetes import workload
from e2e.kubernetes.client import Kubernetes
from e2e.release import manifests

EXAMPLES = sorted((manifests.ROOT / "deploy/examples").glob("*.yaml"))
CLASSES = manifests.ROOT / "deploy/examples/storageclasses.yaml"
OF_THEIR_OWN = {CLASSES, manifests.ROOT / "deploy/examples/static.yaml"}  # that: test_static.py


@pytest.mark.parametrize(
    "example", [each for each in EXAMPLES if each not in OF_THEIR_OWN], ids=lambda path: path.stem
)
def test_an_example_runs_as_it_is(namespace: workload.Namespace, example: Path) -> None:
    kubernetes, here = namespace.kubernetes, namespace.name
    kubernetes.kubectl("apply", "-n", here, "-f", str(example))

    def phases(kind: str) -> list[str]:
        return [each["status"].get("phase", "") for each in kubernetes.list(kind, here)]

    wanted = 3 if example.stem == "statefulset" else 1
    for kind, phase in (("pods", "Running"), ("pvc", "Bound")):
        kubernetes.wait(
            lambda kind=kind, phase=phase: phases(kind) == [phase] * wanted,  # type: ignore[misc]
            f"{wanted} {kind} of {example.name} are {phase}",
        )


def test_the_example_of_a_class_provisions(namespace: workload.Namespace) -> None:
    kubernetes, name = namespace.kubernetes, f"{namespace.name}-rbd"
    (described,) = (each for each in _classes() if each["metadata"]["name"] == "rbd")
    kubernetes.apply({**described, "metadata": {"name": name}})  # the tests have their own "rbd"
    try:
        namespace.claim("data", storage_class=name)
        namespace.start("writer", "data")
        assert " ext4 " in namespace.run("writer", "grep ' /data ' /proc/mounts")
    finally:
        kubernetes.delete("storageclass", name)


def test_the_server_takes_classes_whose_pools_are_not_there(kubernetes: Kubernetes) -> None:
    others = [each for each in _classes() if each["metadata"]["name"] != "rbd"]
    assert others
    text = yaml.safe_dump_all(others)
    said = kubernetes.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    assert said.count("created (server dry run)") == len(others)


def _classes() -> list[dict[str, dict[str, str]]]:
    return list(yaml.safe_load_all(CLASSES.read_text()))
