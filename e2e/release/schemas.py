"""JSON schemas of Kubernetes' objects for kubeconform, made of the API's own description.

Kubernetes' Go module carries that description (OpenAPI); no schema is fetched from elsewhere.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2e import caches, golang
from e2e.release import programs

KUBERNETES = "1.35.4"

_SECONDS = 600
_PREFIX = "#/definitions/"
# What the description calls a string and the API takes as a number, too.
_LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ["string", "integer"],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ["string", "number"],
}


def directory() -> Path:
    """Return the directory of one schema for each kind, named as kubeconform looks for it."""
    return caches.made(f"schemas/{KUBERNETES}", _make)


def _make(directory: Path) -> None:
    module = f"k8s.io/kubernetes@v{KUBERNETES}"
    said = golang.run(programs.MODULE, "mod", "download", "-json", module, timeout=_SECONDS)
    description = Path(json.loads(said)["Dir"]) / "api/openapi-spec/swagger.json"
    definitions = {
        name: _strict(name, definition)
        for name, definition in json.loads(description.read_text())["definitions"].items()
    }
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            schema = {"$ref": _PREFIX + name, "definitions": _reachable(name, definitions)}
            (directory / f"{_file(kind)}.json").write_text(json.dumps(schema))


def _file(kind: Mapping[str, str]) -> str:
    """Return a kind's name as kubeconform makes it: `statefulset-apps-v1`, `pod-v1`."""
    group = kind["group"].partition(".")[0]
    return "-".join(filter(None, (kind["kind"], group, kind["version"]))).lower()


def _strict(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """Refuse fields that the API does not know; `helm template` does not see a misspelt one."""
    if name in _LOOSE:
        return {"type": _LOOSE[name]}
    if "properties" in definition:
        return {**definition, "additionalProperties": False}
    return definition


def _reachable(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definitions that one refers to, itself among them."""
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found[at] = definitions[at]
            waiting += _references(definitions[at])
    return found


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "$ref" and isinstance(below, str):  # a field may have that name, too
                yield below.removeprefix(_PREFIX)
            else:
                yield from _references(below)
    elif isinstance(value, list):
        for below in value:
            yield from _references(below)
