"""Values of the chart, drawn from its schema: all that the schema allows may come.

A null may come in place of a default that the schema does not require; helm removes the default.
Parts that the schema leaves to Kubernetes (`type: object` without properties) have samples here.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from e2e.release import manifests

Schema = Mapping[str, Any]
Values = dict[str, Any]

SCHEMA: Schema = json.loads((manifests.CHART / "values.schema.json").read_text())
DEFAULTS: Values = yaml.safe_load((manifests.CHART / "values.yaml").read_text())

# What trips up a template that does not quote: YAML's numbers, booleans, dates, and its signs.
_ODD = (
    "5",
    "0x1f",
    "1e3",
    "1_000",
    "10:20",
    "2001-01-01",
    "no",
    "null",
    "~",
    "true",
    "a: b",
    "a #b",
)
_TEXT = st.sampled_from(
    [*_ODD, "- a", "{a}", "[a]", "*a", "&a", "!a", "%a", "a\nb", "a:", "'", '"', "é"]
)
_LETTERS = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
_WORD = st.sampled_from(["plain", *(word for word in _ODD if " " not in word)])
_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["no", "5"]}]}
_SPREAD = {
    "maxSkew": 1,
    "topologyKey": "zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app": "5"}},
}
_QUANTITIES: Mapping[str, SearchStrategy[Any]] = {
    "cpu": st.sampled_from([1, 2.5, "1500m", "2"]),
    "memory": st.sampled_from(["96Mi", 134217728, "1e8", "0.1Gi"]),
}

_CA = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"

KEYS = (
    "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA==",
    "AgBhYmNkAAAAACAAYWJjZGVmZ2hpamtsbW5vcGFiY2RlZmdoaWprbG1ub3A=",  # type 2, aes256k
)
MONITORS = (
    "10.0.0.1",
    "mon-a.example:6789",
    "[fd00::1]:3300/0",
    "v2:10.0.0.1:3300",
    "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]",
    "[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]; mon-b, 0x1",
)

# By the path of a value, by its name, or by that of its definition.
_SAMPLES: Mapping[str, SearchStrategy[Any]] = {
    "global": st.just({}),
    "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": _WORD.filter(str.isalnum)})),
    "affinity": st.sampled_from(
        [
            {},
            {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]}
                }
            },
        ]
    ),
    "tolerations": st.sampled_from([[], [{"operator": "Exists"}], [{"key": "a", "value": "no"}]]),
    "topologySpreadConstraints": st.sampled_from([[], [_SPREAD]]),
    "allowedTopologies": st.sampled_from(
        [[], [{"matchLabelExpressions": [{"key": "zone", "values": ["5", "no"]}]}]]
    ),
    "updateStrategy": st.sampled_from([{"type": "OnDelete"}, {"rollingUpdate": {}}]),
    "from": st.sampled_from([[], [{"namespaceSelector": {"matchLabels": {"a": "5"}}}]]),
    "egress": st.sampled_from([[], [{"ports": [{"port": 6789, "protocol": "TCP"}]}]]),
    # Kubernetes knows the names of resources, and wants requests below the limits, which are 256Mi.
    "requests": st.fixed_dictionaries({}, optional=_QUANTITIES),
    "limits": st.fixed_dictionaries({}, optional={"ephemeral-storage": st.just("1Gi")}),
    "claims": st.just([]),
    "caCert": st.just(_CA),
    "cephKey": st.sampled_from(KEYS),
    "monitorAddress": st.sampled_from(MONITORS),
}

# By the name of a list: the part of an entry in which no two are alike.
_UNIQUE: Mapping[str, Callable[[Any], str]] = {
    "clusters": lambda each: each["clusterID"],
    "storageClasses": lambda each: each["name"],
    "volumeSnapshotClasses": lambda each: each["name"],
    "volumeGroupSnapshotClasses": lambda each: each["name"],
    "topology": lambda segment: segment.partition("=")[0],
}


def values() -> SearchStrategy[Values]:
    """Return the strategy of the values of a release."""
    with_secret = _only("existingSecret", in_place_of="clusters")
    with_clusters = _only("clusters", in_place_of="existingSecret")
    with_blocks = st.tuples(with_secret, _changed_blocks()).map(_both)
    drawn = st.one_of(with_secret, with_clusters, with_blocks)
    needed = {("existingSecret",), ("clusters",)}
    # The service of changed blocks needs the other sidecar, and both or none of two values.
    together = {"snapshotter", "snapshotMetadata"}
    removable = [
        path
        for path in _removable(SCHEMA, DEFAULTS)
        if path not in needed and not together.intersection(path)
    ]
    some = st.lists(st.sampled_from(removable), min_size=1, max_size=3)
    nulls = st.booleans().flatmap(lambda each: some if each else st.just([]))
    return st.builds(_with_nulls, nulls, drawn)


def _changed_blocks() -> SearchStrategy[Values]:
    """Return the strategy of sidecars that serve changed blocks, which few drawn values have."""
    schema = SCHEMA["properties"]["sidecars"]["properties"]["snapshotMetadata"]
    drawn = st.one_of(_object(schema, ["tlsSecret"]), _object(schema, ["audience", "extraArgs"]))
    enabled = drawn.map(lambda metadata: {**metadata, "enabled": True})
    return enabled.map(lambda metadata: _with_snapshots({"snapshotMetadata": metadata}))


def _both(drawn: tuple[Values, Values]) -> Values:
    values, sidecars = drawn
    return {**values, "sidecars": {**values.get("sidecars", {}), **sidecars}}


def _removable(schema: Schema, defaults: Values, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the defaults that the schema does not require."""
    for name, default in defaults.items():
        if name not in schema.get("required", ()):
            yield (*above, name)
        if isinstance(default, dict):
            part = _resolved(schema.get("properties", {}).get(name, {}))
            yield from _removable(part, default, *above, name)


def _with_nulls(paths: list[tuple[str, ...]], drawn: Values) -> Values:
    drawn = copy.deepcopy(drawn)
    for *above, name in paths:
        section: Values | None = drawn
        for each in above:
            section = None if section is None else section.setdefault(each, {})
        if section is not None:
            section[name] = None
    return drawn


def _only(name: str, *, in_place_of: str) -> SearchStrategy[Values]:
    drawn = _object(SCHEMA, [name]).filter(lambda each: each[name])
    return drawn.map(lambda each: {k: v for k, v in each.items() if k != in_place_of})


def releases() -> SearchStrategy[str]:
    """Return the strategy of names that helm takes for a release."""
    label = r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?"
    drawn = st.from_regex(rf"{label}(\.{label})?", fullmatch=True)
    return st.one_of(st.sampled_from(["5", "0x1f", "1e3", "no", "null", "a.b", "a" * 53]), drawn)


def _strategy(schema: Schema, name: str = "") -> SearchStrategy[Any]:
    if name in _SAMPLES:
        return _SAMPLES[name]
    if "$ref" in schema:
        definition = schema["$ref"].rpartition("/")[2]
        known = definition in _SAMPLES
        return _SAMPLES[definition] if known else _strategy(_resolved(schema), name)
    for kind in ("anyOf", "allOf"):
        if kind in schema and schema.get("type") != "object":
            drawn = [_strategy(each, name) for each in schema[kind] if "not" not in each]
            merged = _merged(schema[kind]) if kind == "allOf" else None
            return _strategy(merged, name) if merged else st.one_of(drawn)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _typed(schema, name)


def _merged(parts: list[Schema]) -> Schema:
    """Return the schema that all of these make together."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= _resolved(part)
    return merged


def _resolved(schema: Schema) -> Schema:
    """Return the definition that a schema refers to, or the schema itself."""
    if "$ref" not in schema:
        return schema
    definition: Schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return definition


def _typed(schema: Schema, name: str) -> SearchStrategy[Any]:
    kinds = schema.get("type", "string")
    if isinstance(kinds, list):
        return st.one_of([_strategy({**schema, "type": kind}) for kind in kinds])
    match kinds:
        case "string":
            return _text(schema)
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 1 << 31))
        case "number":
            return st.sampled_from([0, 2.5, 4194304, 1e-7])
        case "array":
            items = _strategy(schema["items"])
            least = schema.get("minItems", 0)
            return st.lists(items, min_size=least, max_size=2, unique_by=_UNIQUE.get(name))
        case "object":
            return _object(schema)
        case other:
            raise AssertionError(f"{name}: add a sample for the type {other}")


def _text(schema: Schema) -> SearchStrategy[str]:
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 1 << 16)
    refused = schema.get("not", {})

    def fits(text: str) -> bool:
        listed = text in refused.get("enum", ())
        matches = "pattern" in refused and re.search(refused["pattern"], text)
        return shortest <= len(text) <= longest and not listed and not matches

    if "pattern" in schema:
        drawn = st.from_regex(schema["pattern"], fullmatch=True, alphabet=_LETTERS)
        return drawn.filter(fits)
    return _TEXT.filter(fits)


def _object(schema: Schema, required: list[str] | None = None) -> SearchStrategy[Values]:
    required = schema.get("required", []) if required is None else required
    if "properties" not in schema:
        contents = _strategy(schema["additionalProperties"])
        return st.dictionaries(_names(schema), contents, max_size=2)
    drawn = {name: _strategy(each, name) for name, each in schema["properties"].items()}
    mandatory = {name: drawn[name] for name in required}
    optional = {name: each for name, each in drawn.items() if name not in mandatory}
    objects = st.fixed_dictionaries(mandatory, optional=optional)
    if "stateDir" in drawn:
        objects = objects.filter(lambda node: node["stateDir"] != node["kubeletDir"])
    for name, mended in _MENDED.items():
        objects = objects.map(mended) if name in drawn else objects
    return objects


def _names(schema: Schema) -> SearchStrategy[str]:
    """Return the strategy of the keys of a map: those that no pattern refuses."""
    patterns = dict(schema.get("patternProperties", {}))
    for part in schema.get("allOf", ()):
        patterns |= _resolved(part)["patternProperties"]
    allowed = [pattern for pattern, contents in patterns.items() if contents is True]
    refused = [pattern for pattern in patterns if pattern not in allowed]
    drawn = [st.from_regex(each, fullmatch=True, alphabet=_LETTERS) for each in allowed]
    names = st.one_of(drawn) if drawn else _WORD
    return names.filter(lambda name: not any(re.search(each, name) for each in refused))


def _with_one_origin(cluster: Values) -> Values:
    """Return a cluster of which each fact has one origin, as the schema demands."""
    cluster = dict(cluster)
    if "auth" in cluster:  # in place of every key
        for name in ("key", "keyFrom", "nodeKey", "nodeKeyFrom"):
            cluster.pop(name, None)
        cluster.setdefault("monitors", ["10.0.0.1"])
        return {k: v for k, v in cluster.items() if k != "monitorsFrom"}
    for name, origin in (("monitors", "monitorsFrom"), ("key", "keyFrom")):
        if origin in cluster:
            cluster.pop(name, None)
        elif name not in cluster:
            cluster[name] = ["10.0.0.1"] if name == "monitors" else KEYS[0]
    if "nodeUser" not in cluster:
        cluster = {k: v for k, v in cluster.items() if k not in {"nodeKey", "nodeKeyFrom"}}
    elif "nodeKeyFrom" in cluster:
        cluster.pop("nodeKey", None)
    else:
        cluster.setdefault("nodeKey", KEYS[0])
    return cluster


def _with_a_whole_certificate(metadata: Values) -> Values:
    """Return the service of changed blocks with both a Secret and its CA, or with none of them."""
    if metadata.get("tlsSecret"):
        return {**metadata, "caCert": _CA}
    return {k: v for k, v in metadata.items() if k not in {"tlsSecret", "caCert"}}


def _with_snapshots(sidecars: Values) -> Values:
    """Return sidecars of which that of snapshots is on if that of changed blocks is."""
    if not sidecars.get("snapshotMetadata", {}).get("enabled"):
        return sidecars
    return {**sidecars, "snapshotter": {**sidecars.get("snapshotter", {}), "enabled": True}}


# By a value that such an object may have.
_MENDED: Mapping[str, Callable[[Values], Values]] = {
    "monitorsFrom": _with_one_origin,
    "tlsSecret": _with_a_whole_certificate,
    "snapshotMetadata": _with_snapshots,
}


def file(directory: Path, drawn: Values) -> Path:
    """Write the values to a file, as JSON, which is YAML, too."""
    path = directory / "values.yaml"
    path.write_text(json.dumps(drawn))
    return path
