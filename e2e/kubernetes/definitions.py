"""Kinds whose own CustomResourceDefinitions are not at hand.

Any content of them is taken, but for SnapshotMetadataService, which has the fields of its API.
"""

from collections.abc import Sequence

from e2e.kubernetes.client import Kubernetes, Object

_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# cbt.storage.k8s.io/v1beta1; the Go module proxy does not serve the module with its definition.
_SNAPSHOT_METADATA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["address", "audience", "caCert"],
            "properties": {
                "address": {"type": "string"},
                "audience": {"type": "string"},
                "caCert": {"type": "string", "format": "byte"},
            },
        }
    },
}


def add(kubernetes: Kubernetes, group: str, version: str, scope: str, kinds: Sequence[str]) -> None:
    """Make the definitions, and return when the API server serves them.

    Args:
        kubernetes: where.
        group: such as "monitoring.coreos.com".
        version: such as "v1".
        scope: "Namespaced" or "Cluster".
        kinds: such as "PodMonitor".
    """
    _add(kubernetes, [_definition(group, version, scope, kind, _ANYTHING) for kind in kinds])


def add_snapshot_metadata(kubernetes: Kubernetes) -> None:
    """Make the definition of SnapshotMetadataService, and return when it is served."""
    kind = "SnapshotMetadataService"
    made = _definition("cbt.storage.k8s.io", "v1beta1", "Cluster", kind, _SNAPSHOT_METADATA)
    _add(kubernetes, [made])


def _add(kubernetes: Kubernetes, made: Sequence[Object]) -> None:
    kubernetes.apply(*made)
    names = [f"crd/{each['metadata']['name']}" for each in made]
    kubernetes.kubectl("wait", "--for=condition=Established", *names)


def _definition(group: str, version: str, scope: str, kind: str, schema: Object) -> Object:
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
            "versions": [{**only, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _plural(kind: str) -> str:
    return f"{kind.lower()}s"
