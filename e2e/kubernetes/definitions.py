"""Kinds whose own CustomResourceDefinitions are not at hand: any content is taken."""

from collections.abc import Sequence

from e2e.kubernetes.client import Kubernetes, Object


def add(kubernetes: Kubernetes, group: str, version: str, scope: str, kinds: Sequence[str]) -> None:
    """Make the definitions, and return when the API server serves them.

    Args:
        kubernetes: where.
        group: such as "monitoring.coreos.com".
        version: such as "v1".
        scope: "Namespaced" or "Cluster".
        kinds: such as "PodMonitor".
    """
    kubernetes.apply(*(_definition(group, version, scope, kind) for kind in kinds))
    names = [f"crd/{_plural(kind)}.{group}" for kind in kinds]
    kubernetes.kubectl("wait", "--for=condition=Established", *names)


def _definition(group: str, version: str, scope: str, kind: str) -> Object:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    only = {"name": version, "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{_plural(kind)}.{group}",
            # Kubernetes' own groups want a reason; this one says that it is no approved definition.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": _plural(kind)},
            "versions": [{**only, "schema": {"openAPIV3Schema": anything}}],
        },
    }


def _plural(kind: str) -> str:
    return f"{kind.lower()}s"
