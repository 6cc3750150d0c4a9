"""What users make of volumes: claims and Pods in a namespace, and what is read from them."""

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.kubernetes import chart
from e2e.kubernetes.client import Kubernetes, Object

SHELL = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"
MOUNT, DEVICE = "/data", "/dev/volume"
_FOREVER = ("sleep", "infinity")


@dataclass(frozen=True)
class Namespace:
    """A namespace and the verbs of its user."""

    kubernetes: Kubernetes
    name: str

    def claim(self, name: str, **wishes: Any) -> None:
        """Make a PersistentVolumeClaim: see `claim`."""
        self.kubernetes.apply(self._here(claim(name, **wishes)))

    def start(self, name: str, volume: str, **wishes: Any) -> None:
        """Make a Pod and return when it runs: see `pod`."""
        self.create(name, volume, **wishes)
        self.wait_for_pod(name)

    def create(self, name: str, volume: str, **wishes: Any) -> None:
        """Make a Pod: see `pod`."""
        self.kubernetes.apply(self._here(pod(name, volume, **wishes)))

    def apply(self, *objects: Object) -> None:
        """Create any objects in this namespace."""
        self.kubernetes.apply(*map(self._here, objects))

    def wait_for_pod(self, name: str, timeout: float = 300) -> None:
        """Return when the Pod runs."""
        running = "jsonpath={.status.phase}=Running"
        self.kubernetes.wait_for("pod", name, running, self.name, timeout)

    def wait_for_claim(self, name: str) -> None:
        """Return when the claim has its volume."""
        self.kubernetes.wait_for("pvc", name, "jsonpath={.status.phase}=Bound", self.name)

    def resize(self, name: str, size: str) -> None:
        """Ask for another size of a claim, such as "2Gi"."""
        wish = json.dumps({"spec": {"resources": {"requests": {"storage": size}}}})
        self.kubernetes.kubectl("patch", "pvc", name, "-n", self.name, "--patch", wish)

    def wait_for_size(self, name: str, size: str) -> None:
        """Return when the claim has that size, filesystem included."""
        has_size = f"jsonpath={{.status.capacity.storage}}={size}"
        self.kubernetes.wait_for("pvc", name, has_size, self.name)

    def phase(self, kind: str, name: str) -> str:
        """Return the phase of a Pod or claim; empty if there is none."""
        found = self.kubernetes.get(kind, name, self.name)
        return str(found["status"].get("phase", "")) if found else ""

    def run(self, name: str, line: str) -> str:
        """Run a line of shell in the Pod and return what it printed."""
        return self.kubernetes.kubectl(
            "exec", "-n", self.name, name, "--", "sh", "-ec", line, timeout=120
        )

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and return when it is gone."""
        self.kubernetes.delete(kind, name, self.name)

    def volume(self, name: str) -> Object:
        """Return the PersistentVolume of a claim."""
        found = self.kubernetes.get("pvc", name, self.name)
        assert found, f"there is no claim {name}"
        volume = self.kubernetes.get("pv", found["spec"]["volumeName"])
        assert volume, f"claim {name} has no volume"
        return volume

    def image(self, name: str) -> str:
        """Return the name of the image behind a claim."""
        return f"csi-{self.volume(name)['metadata']['name']}"

    def events(self, kind: str, name: str) -> Sequence[str]:
        """Return what was said about an object, oldest first."""
        chosen = f"involvedObject.kind={kind},involvedObject.name={name}"
        lines = "jsonpath={range .items[*]}{.message}{'\\n'}{end}"
        return self.kubernetes.kubectl(
            "get", "events", "-n", self.name, "--field-selector", chosen, "-o", lines
        ).splitlines()

    def _here(self, described: Object) -> Object:
        return {**described, "metadata": {**described["metadata"], "namespace": self.name}}


@contextlib.contextmanager
def namespace(kubernetes: Kubernetes) -> Iterator[Namespace]:
    """Give a new namespace; after the body every volume that was made in it is gone.

    The namespace itself, empty then, goes some time later.
    """
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubernetes.kubectl("create", "namespace", name)
    try:
        yield Namespace(kubernetes, name)
    finally:
        # Examples have no grace period of their own, and a shell would use all of the usual 30 s.
        soon = ("--all", "--grace-period=1", "--wait=false")
        kubernetes.kubectl("delete", "statefulsets,pods", "-n", name, *soon)
        kubernetes.kubectl("delete", "pvc", "--all", "-n", name, timeout=300)

        def gone() -> bool:
            volumes = kubernetes.list("pv")
            return not any(v["spec"]["claimRef"]["namespace"] == name for v in volumes)

        kubernetes.wait(gone, f"the volumes of {name} are gone")
        kubernetes.kubectl("delete", "namespace", name, "--wait=false")


def claim(
    name: str,
    *,
    size: str = "1Gi",
    storage_class: str = chart.CLASS,
    mode: str = "ReadWriteOnce",
    block: bool = False,
    source: Object | None = None,
) -> Object:
    """Return a PersistentVolumeClaim; `source` is the snapshot or claim that it is made of."""
    spec = claim_spec(size=size, storage_class=storage_class, mode=mode, block=block)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**spec, **({"dataSource": source} if source else {})},
    }


def claim_spec(
    *,
    size: str = "1Gi",
    storage_class: str = chart.CLASS,
    mode: str = "ReadWriteOnce",
    block: bool = False,
) -> Mapping[str, object]:
    """Return the spec of a claim, as a StatefulSet's template has it, too."""
    return {
        "accessModes": [mode],
        "volumeMode": "Block" if block else "Filesystem",
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }


def pod(
    name: str,
    volume: str,
    *,
    node: str = "",
    command: Sequence[str] = _FOREVER,
    block: bool = False,
    readonly: bool = False,
) -> Object:
    """Return a Pod that has a claim's volume at MOUNT, or a raw one at DEVICE.

    Args:
        name: the Pod's.
        volume: the claim's name; empty for none.
        node: where it has to run; empty for anywhere.
        command: what it does.
        block: the claim is of a raw volume.
        readonly: the Pod may not write.
    """
    source = {"claimName": volume, "readOnly": readonly}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "terminationGracePeriodSeconds": 1,
            "containers": [container(command, volume, block=block)],
            "volumes": [{"name": "data", "persistentVolumeClaim": source}] if volume else [],
        },
    }


def container(command: Sequence[str], volume: str, *, block: bool = False) -> Mapping[str, object]:
    """Return the container of such a Pod; its volume is called "data"."""
    use: Mapping[str, object] = {}
    if volume and block:
        use = {"volumeDevices": [{"name": "data", "devicePath": DEVICE}]}
    elif volume:
        use = {"volumeMounts": [{"name": "data", "mountPath": MOUNT}]}
    return {
        "name": "main",
        "image": SHELL,
        "command": list(command),
        "securityContext": {"privileged": False},
        **use,
    }


def stateful_set(
    name: str,
    container: Mapping[str, object],
    claim: Mapping[str, object],
    *,
    replicas: int = 1,
    prefers: str = "",
) -> Object:
    """Return a StatefulSet whose Pods have a volume each, called "data".

    Args:
        name: the StatefulSet's.
        container: see `container`.
        claim: see `claim_spec`.
        replicas: the number of Pods.
        prefers: the node where they run if it can be had; empty for anywhere.
    """
    labels = {"app": name}
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [prefers]}
    term = {"weight": 100, "preference": {"matchExpressions": [expression]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "affinity": affinity if prefers else {},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def is_ready(pod: Object) -> bool:
    """Return whether a Pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
