"""The driver's controllers on a Kubernetes: which one leads, and where they run."""

from collections.abc import Sequence

from e2e.kubernetes import chart, workload
from e2e.kubernetes.client import Kubernetes, Object

_ATTACHERS_LEASE = f"external-attacher-leader-{chart.DRIVER.replace('.', '-')}"
_SECONDS = 600


def leader(kubernetes: Kubernetes) -> Object:
    """Return the Pod whose attacher works; the lease has its name."""
    holder = "jsonpath={.spec.holderIdentity}"
    kubernetes.wait_for("lease", _ATTACHERS_LEASE, holder, chart.NAMESPACE)
    lease = kubernetes.get("lease", _ATTACHERS_LEASE, chart.NAMESPACE)
    assert lease
    pod = kubernetes.get("pod", lease["spec"]["holderIdentity"], chart.NAMESPACE)
    assert pod
    return pod


def spread(kubernetes: Kubernetes) -> str:
    """Return the leader's node, once the other controller runs at another one.

    Both are at one node after the other one was lost, and Kubernetes leaves them there.
    """
    leads = leader(kubernetes)
    name, node = leads["metadata"]["name"], str(leads["spec"]["nodeName"])
    for pod in _pods(kubernetes):
        if pod["metadata"]["name"] != name and pod["spec"]["nodeName"] == node:
            kubernetes.delete("pod", pod["metadata"]["name"], chart.NAMESPACE)

    def is_spread() -> bool:
        pods = _pods(kubernetes)
        nodes = {pod["spec"].get("nodeName") for pod in pods}
        return len(nodes) == len(pods) == 2 and all(map(workload.is_ready, pods))

    kubernetes.wait(is_spread, "the controllers run at two nodes", _SECONDS)
    return node


def _pods(kubernetes: Kubernetes) -> Sequence[Object]:
    selector = "app.kubernetes.io/component=controller"
    return list(kubernetes.list("pods", chart.NAMESPACE, selector))
